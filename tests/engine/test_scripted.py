"""The scripted engine as a model source: what a script decides, and what is said of a script that is none."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from codemmlu.engine.backends import BACKENDS, open_engine
from codemmlu.engine.model_source import is_on_hub, known, parameters, resolve, validate
from codemmlu.engine.protocol import EngineSettings, Sampling
from codemmlu.engine.scripted import Script, ScriptedEngine, fingerprint, open_scripted, read_script
from codemmlu.errors import EngineDied, UserError
from codemmlu.mcq import render, render_check
from tests.support.rows import question
from tests.support.runs import job

PRINT = question("t1")  # What does `{x!r}` print?  one, two, three, four


def opened(**fields: object) -> ScriptedEngine:
    return ScriptedEngine(Script.model_validate(fields))


def letter(engine: ScriptedEngine, order: tuple[int, ...] = (0, 1, 2, 3)) -> str:
    reading = asyncio.run(engine.score(render(PRINT, "codemmlu", order)))
    return "ABCD"[max(range(4), key=lambda place: reading.logprobs[place])]


def test_a_question_without_a_rule_gets_the_letter_a() -> None:
    assert [letter(opened(), order) for order in ((0, 1, 2, 3), (3, 2, 1, 0))] == ["A", "A"]


def test_a_rule_follows_its_choice_wherever_it_is_shown() -> None:
    engine = opened(answers={"print": "three"})
    assert [letter(engine, order) for order in ((0, 1, 2, 3), (2, 1, 0, 3), (3, 0, 1, 2))] == ["C", "A", "D"]


def test_checks_are_true_but_for_refuted_choices() -> None:
    engine = opened(refuted=["two"])
    readings = [asyncio.run(engine.score(render_check(PRINT, choice))) for choice in (0, 1)]
    words = render_check(PRINT, 0).words
    assert [words[reading.logprobs.index(max(reading.logprobs))] for reading in readings] == ["TRUE", "FALSE"]


def test_replies_are_given_in_turn() -> None:
    generation = asyncio.run(opened(replies=["one", "two"]).generate(render(PRINT, "codemmlu"), Sampling(9, n=3)))
    assert generation.texts == ("one", "two", "one")


def test_an_engine_whose_process_is_gone_is_dead() -> None:
    engine = opened(own_process=True)
    assert letter(engine) == "A"
    engine.close()
    assert engine._process
    engine._process.wait()
    with pytest.raises(EngineDied):
        letter(engine)


def test_every_prompt_is_in_the_log(tmp_path: Path) -> None:
    engine = opened(log=str(tmp_path / "log"))
    letter(engine)
    asyncio.run(engine.generate(render(PRINT, "codemmlu"), Sampling(9), adapter="x"))
    (file,) = tmp_path.iterdir()
    first, second = file.read_text().splitlines()
    assert "What does `{x!r}` print?" in first
    assert '"adapter": "x"' in second


def test_only_rules_of_answering_change_the_fingerprint() -> None:
    plain = fingerprint(Script())
    same = ({"log": "x"}, {"seconds": 1}, {"breaks": ["x"]}, {"kills_engine": ["x"]}, {"kills_once": "x"})
    assert {fingerprint(Script.model_validate(fields)) for fields in same} == {plain}
    other = ({"answers": {"x": "y"}}, {"refuted": ["x"]}, {"replies": ["x"]}, {"not_finite": ["x"]})
    assert len({plain, *(fingerprint(Script.model_validate(fields)) for fields in other)}) == 5


def test_a_script_is_a_model_without_weights(tmp_path: Path) -> None:
    path = tmp_path / "0.5B.yaml"
    path.write_text("answers: {print: three}\n")
    source = f"scripted:{path}"
    model = validate(source, None, "/nowhere")
    assert (model.weight_bytes, model.fingerprint) == (None, fingerprint(Script(answers={"print": "three"})))
    assert (parameters(model), known(source, None, "/nowhere"), is_on_hub(source)) == (None, None, False)
    settings = EngineSettings(source, "/nowhere", {"script": model.config}, backend="scripted")
    engine = open_engine(settings)
    assert isinstance(engine, ScriptedEngine)
    assert letter(engine) == "C"
    with pytest.raises(UserError, match="has no weights: it can be asked, but not trained or merged"):
        resolve(source, "/nowhere")
    with pytest.raises(UserError, match="revision 'main' is for Hub models"):
        validate("scripted", "main", "/nowhere")
    assert BACKENDS.keys() == {"vllm", "scripted", "states"}


def test_the_nth_engine_cannot_be_opened(tmp_path: Path) -> None:
    script = Script(fails_to_open=(str(tmp_path / "opened"), 2)).model_dump(mode="json")
    settings = EngineSettings("scripted", "/nowhere", {"script": script})
    open_scripted(settings)
    with pytest.raises(UserError, match="this engine cannot start"):
        open_scripted(settings)
    open_scripted(settings)


def test_an_engine_dies_once(tmp_path: Path) -> None:
    script = Script(kills_engine=("print",), kills_once=str(tmp_path / "died"))
    settings = EngineSettings("scripted", "/nowhere", {"script": script.model_dump(mode="json")})
    first, second = open_scripted(settings), open_scripted(settings)
    with pytest.raises(EngineDied):
        asyncio.run(first.score(render(PRINT, "codemmlu")))
    assert asyncio.run(second.score(render(PRINT, "codemmlu"))).logprobs


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("answer: {a: b}", "answer: there is no such key; keys: answers, refuted, replies"),
        ("seconds: -1", "seconds: Input should be greater than or equal to 0 (it is '-1')"),
        ("replies: []", "replies: Tuple should have at least 1 item"),
        ("[answers]", "is no mapping; it may have answers, refuted"),
        ("answers: [", "is not YAML"),
    ],
)
def test_a_fault_in_a_script_is_one_line(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "script.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_script(f"scripted:{path}")
    assert str(error.value).startswith(f"models: the script {path}")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_script_is_named() -> None:
    with pytest.raises(UserError, match=r"^models: the script /no/file cannot be read: No such file or directory$"):
        read_script("scripted:/no/file")


def test_the_plan_of_a_scripted_model_loads_none(tmp_path: Path) -> None:
    scripted = ("models.smol.source=scripted", "--dry-run", f"out={tmp_path}/x")
    for gpus in ([], ["--gpus", "2xT4"]):
        done = job("run", "recipes/demo.yaml", *scripted, *gpus)
        assert done.code == 0, done.err
        (line,) = [line for line in done.out.splitlines() if line.startswith("smol (scripted): 144 asks")]
        assert line.endswith("; no model is loaded")


def test_a_scripted_reading_is_whole() -> None:
    reading = asyncio.run(opened().score(render(replace(PRINT, choices=("a", "b")), "codemmlu")))
    assert (reading.order, len(reading.logprobs)) == ((0, 1), 2)
    assert reading.mass == pytest.approx(0.8)
