"""The tally of a part: what a voter's own answers are, whatever else is stored, and what failed besides."""

from codemmlu.dataset.label_position import with_answer_at
from codemmlu.inference.calibration import Calibration
from codemmlu.inference.spec import InferenceSpec
from codemmlu.inference.voters import Ensemble, ResolvedVoter
from codemmlu.mcq import letter_prior
from codemmlu.recipe import DirectVoter
from codemmlu.schema import Answer, Question, to_table
from codemmlu.voting.aggregation import Partition, aggregate, own_prior_sums
from tests.support.rows import answer, failed, question, reading, spec_of

SURE, FLAT = reading((-9.0, -0.01, -9.0, -9.0)), reading((-1.4, -1.3, -1.4, -1.4))
QUESTIONS = tuple(question(f"t{n}") for n in range(6))
CLOSE = QUESTIONS[:2]  # on which the first voter is unsure

FIRST = DirectVoter(model="m")
LATER = DirectVoter.model_validate(
    {"model": "m", "template": "reference", "calibrate": "prior", "when": {"margin_below": 0.2, "of": ["first"]}}
)
ONE, OTHER = spec_of(FIRST, "w", None), spec_of(LATER, "w", None)


def voter(name: str, voter: DirectVoter, ask: InferenceSpec, calibration: Calibration | None = None) -> ResolvedVoter:
    return ResolvedVoter(name, voter, "m", ask, calibration)


VOTERS = {"first": voter("first", FIRST, ONE), "later": voter("later", LATER, OTHER, Calibration(OTHER))}


def part(*answers: Answer) -> Partition:
    return Partition(QUESTIONS, {"m": [to_table(answers, Answer)]})


def asked(of: Question, ask: InferenceSpec, likes: float) -> Answer:
    return answer(of, ask, readings=(reading((likes, -1.0, -2.0, -2.0)),))


def test_a_cascades_prior_ignores_answers_of_an_earlier_attempt() -> None:
    first = [answer(q, ONE, readings=(FLAT if q in CLOSE else SURE,)) for q in QUESTIONS]
    own = [asked(q, OTHER, -0.5) for q in CLOSE]
    left_over = [asked(q, OTHER, -9.0) for q in QUESTIONS if q not in CLOSE]
    ensemble = Ensemble(VOTERS, {}, (), 4)
    found = own_prior_sums(part(*first, *own, *left_over), ensemble, ["later"], {"first": None})
    assert found == {"later": letter_prior.sums(one.readings for one in own)}


def test_failures_with_the_right_choice_moved_count_separately() -> None:
    ensemble = Ensemble({"first": VOTERS["first"]}, {}, (), 4, ("first",))
    moved = [one for to in "ABCD" if (one := with_answer_at(QUESTIONS[0], to))]
    answers = [*(failed(q, ONE) for q in moved if q != QUESTIONS[0]), *(answer(q, ONE) for q in QUESTIONS)]
    sums = aggregate(part(*answers), ensemble, {"first": None}).sums
    # Where the right choice stands already nothing is moved, and the answer is the question's own: it failed once.
    assert (sums.swaps_failed, sums.failed, len(sums.failures)) == (3, 0, 3)
    assert {failure.error for failure in sums.failures} == {"why"}
