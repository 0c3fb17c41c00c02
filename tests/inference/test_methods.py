"""The methods, against the scripted engine: what is asked, in which order, and what is kept of it."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from codemmlu.engine.scripted import Script
from codemmlu.inference.methods import METHODS, MethodInput, MethodResult, NotFinite
from codemmlu.inference.spec import InferenceSpec
from codemmlu.recipe import AskedVoter, DirectVoter, ReasonVoter, SampleVoter, VerifyRankVoter, VerifyVoter
from codemmlu.schema import Question
from tests.support.engines import RecordingEngine
from tests.support.rows import question, spec_of

FOUR = question("t1", choices=("one", "two", "three", "four"))


def asked(
    voter: AskedVoter, script: Mapping[str, Any], of: Question = FOUR, **found: Any
) -> tuple[MethodResult, RecordingEngine]:
    """What a voter's method makes of a question, and the engine it asked. found: by earlier stages."""
    engine = RecordingEngine(Script(**script))
    ask: InferenceSpec = spec_of(voter, "w", None)
    return asyncio.run(METHODS[ask.method].run(engine, ask, MethodInput(of, **found))), engine


def test_cyclic_readings_cancel_a_liking_for_a_letter() -> None:
    result, engine = asked(DirectVoter(model="m", readings="cyclic"), {"answers": {"print": "three"}})
    assert result.letter == "C"
    assert [reading.order for reading in result.readings] == [(0, 1, 2, 3), (1, 2, 3, 0), (2, 3, 0, 1), (3, 0, 1, 2)]
    assert result.generated_tokens == len(engine.scored) == 4
    assert engine.most_at_once == 4, "readings of one question are sent together"
    always_a, _ = asked(DirectVoter(model="m", readings="cyclic"), {})
    spread = [reading.logprobs.index(max(reading.logprobs)) for reading in always_a.readings]
    assert spread == [0, 0, 0, 0]
    assert always_a.letter == "A"  # of four equally probable choices the first


def test_choices_that_refer_to_others_stay_in_their_order() -> None:
    above = question("t1", choices=("one", "two", "Both A and B", "None of the above"))
    result, engine = asked(DirectVoter(model="m", readings="cyclic"), {"answers": {"print": "two"}}, above)
    assert [reading.order for reading in result.readings] == [(0, 1, 2, 3)]
    assert len(engine.scored) == 1


def test_only_an_early_exit_skips_readings() -> None:
    """The setting decides, not whether a prior is at hand."""
    cyclic = DirectVoter(model="m", readings="cyclic", calibrate="prior", margin=0.05)
    early = cyclic.model_copy(update={"early_exit": "margin"})
    for voter, readings in ((cyclic, 4), (early, 1)):
        result, _ = asked(voter, {"answers": {"print": "three"}}, log_prior=(-1.4, -1.4, -1.4, -1.4))
        assert len(result.readings) == readings
    with pytest.raises(AssertionError):
        asked(early, {})


def test_only_a_fitted_threshold_is_taken_from_a_stage() -> None:
    for threshold, letter in ((0.9, "D"), ("fit", "B")):
        voter = VerifyVoter.model_validate({"method": "verify", "model": "m", "threshold": threshold})
        result, _ = asked(voter, {"answers": {"print": "two"}}, threshold=0.1)
        assert result.letter == letter


def test_verify_ends_at_true() -> None:
    result, engine = asked(VerifyVoter(method="verify", model="m"), {"answers": {"print": "two"}})
    assert (result.status, result.letter) == ("answered", "B")
    assert [(turn.kind, turn.letter) for turn in result.turns] == [("answer", "B"), ("check", "B")]
    assert result.turns[1].p_true == pytest.approx(0.7 / 0.8)
    assert len(engine.scored) == result.generated_tokens == 2


def test_verify_asks_again_without_what_is_false() -> None:
    result, engine = asked(
        VerifyVoter(method="verify", model="m"), {"answers": {"print": "two"}, "refuted": ("two", "one")}
    )
    assert [(turn.kind, turn.letter) for turn in result.turns] == [
        ("answer", "B"),
        ("check", "B"),
        ("answer", "A"),  # the script falls back on its first letter, which is the first choice that is left
        ("check", "A"),
        ("answer", "C"),
        ("check", "C"),
    ]
    assert result.letter == "C"
    again = engine.scored[2].messages[-1].content
    assert "two" not in again
    assert [reading.order for reading in result.readings] == [(0, 1, 2, 3), (0, 2, 3), (2, 3)]


def test_verify_takes_the_last_choice_unchecked() -> None:
    result, _ = asked(VerifyVoter(method="verify", model="m"), {"refuted": ("one", "two", "three", "four")})
    assert result.letter == "D"
    assert result.turns[-1].kind == "answer"
    assert sum(turn.kind == "check" for turn in result.turns) == 3


def test_one_choice_left_at_the_first_false() -> None:
    result, _ = asked(
        VerifyVoter(method="verify", model="m"), {"refuted": ("yes",)}, question("t1", choices=("yes", "no"))
    )
    assert [(turn.kind, turn.letter) for turn in result.turns] == [("answer", "A"), ("check", "A"), ("answer", "B")]


@pytest.mark.parametrize(("threshold", "letter"), [(0.8, "B"), (0.9, "D")])
def test_the_threshold_decides_what_is_accepted(threshold: float, letter: str) -> None:
    result, _ = asked(VerifyVoter(method="verify", model="m", threshold=threshold), {"answers": {"print": "two"}})
    assert result.letter == letter


def test_verify_rank_asks_of_every_choice_and_weighs() -> None:
    result, engine = asked(
        VerifyRankVoter(method="verify-rank", model="m"), {"answers": {"print": "two"}, "refuted": ("two",)}
    )
    assert len(engine.scored) == 5
    assert [turn.letter for turn in result.turns] == list("ABCD")
    # 0.7 x 1/8 for the refused one against 0.1 x 7/8 for the others: equal, and so the first
    assert result.letter == "A"


def test_reason_reads_a_letter_after_the_thought() -> None:
    script = {"replies": ("<think>First, look closely",), "answers": {"print": "two"}}
    result, engine = asked(ReasonVoter(method="reason", model="m", max_tokens=7), script)
    ((prompt, sampling),) = engine.generated
    assert (sampling.max_tokens, sampling.n) == (7, 1)
    assert result.turns[0].text == "First, look closely"
    after = engine.scored[-1].messages
    assert [message.role for message in after] == ["user", "assistant", "user"]
    assert after[0] == prompt.messages[0]
    assert after[1].content == "First, look closely"
    assert result.status == "answered"
    assert result.generated_tokens == 1 + len(["<think>First,", "look", "closely"])


def test_sample_counts_the_letters_that_were_said() -> None:
    voter = SampleVoter(method="sample", model="m", n=5, retry=False)
    result, engine = asked(voter, {"replies": ("B", "Answer: C", "no idea", "(C)", "B or C")})
    assert result.letter == "C"
    assert [(turn.letter, turn.found) for turn in result.turns] == [
        ("B", "exact"),
        ("C", "marker"),
        (None, "none"),
        ("C", "exact"),
        (None, "none"),
    ]
    ((_, sampling),) = engine.generated
    assert (sampling.n, sampling.temperature, sampling.top_k, sampling.top_p) == (5, 0.7, 20, 0.8)


def test_a_tie_of_replies_is_broken_by_the_reading_beside_them() -> None:
    voter = SampleVoter(method="sample", model="m", n=2)
    result, _ = asked(voter, {"replies": ("B", "C"), "answers": {"print": "three"}})
    assert result.letter == "C"


def test_replies_that_say_nothing_abstain() -> None:
    result, _ = asked(SampleVoter(method="sample", model="m", n=3, retry=False), {"replies": ("I do not know.",)})
    assert (result.status, result.letter) == ("abstained", None)


def test_a_reply_that_says_nothing_is_followed_by_a_reading() -> None:
    voter = SampleVoter(method="sample", model="m", n=3)
    result, engine = asked(voter, {"replies": ("no idea", "(C)", "hm"), "answers": {"print": "two"}})
    assert [(turn.letter, turn.found) for turn in result.turns] == [("A", "retry"), ("C", "exact"), ("A", "retry")]
    assert result.letter == "A"
    assert len(result.readings) == 1
    after = [message.content for message in engine.scored[-1].messages]
    assert after[-2] in ("no idea", "hm")
    assert result.generated_tokens == 3 + sum(len(text.split()) for text in ("no idea", "(C)", "hm"))


def test_a_thought_makes_room_for_the_letter() -> None:
    """However much of the engine's length it took."""
    thought = "word " * 9_990
    result, engine = asked(ReasonVoter(method="reason", model="m"), {"replies": (thought,)})
    assert result.status == "answered"
    assert engine.fits(engine.tokens(engine.scored[-1]))
    assert thought.startswith(result.turns[0].text)
    assert 0 < len(result.turns[0].text) < len(thought)


def test_what_is_not_finite_is_not_answered() -> None:
    with pytest.raises(NotFinite):
        asked(VerifyVoter(method="verify", model="m"), {"not_finite": ("print",)})


def test_identical_choices_are_asked_as_they_stand() -> None:
    result, engine = asked(DirectVoter(model="m", readings="cyclic"), {}, question("t1", choices=("same", "same")))
    assert result.letter == "A"
    assert [reading.order for reading in result.readings] == [(0, 1), (1, 0)]
    assert all("A. same\nB. same\n" in prompt.messages[0].content for prompt in engine.scored)
