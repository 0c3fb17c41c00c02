"""Voters as views: stored answers to one Vote per voter and question, without an engine."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from codemmlu.dataset.examples import FIT
from codemmlu.inference.spec import Ask
from codemmlu.inference.stages import Calibration, Seat
from codemmlu.inference.thresholds import fit_threshold
from codemmlu.mcq import (
    Prior,
    Probabilities,
    choice_probabilities,
    estimate,
    margin,
    mean,
    of_size,
    pick,
    ranked,
    shares,
    verified,
)
from codemmlu.recipe import AskedVoter, RetrieveVoter, WhenSettings, digest, when_of
from codemmlu.run_dir import RunDir
from codemmlu.schema import Answer, Question, Vote, VoteStatus, answer_from, letters


@dataclass(frozen=True)
class Seen:
    """What a voter makes of what is stored: a vote for each question, in their order, and the answers behind them.

    prior: the letters', where the voter divides it out
    """

    votes: list[Vote]
    answers: dict[str, Answer]
    prior: Prior | None


# Where a voter's answers are: the pool's name and the wanted keys to what is there.
Find = Callable[[str, set[str]], dict[str, Answer]]
PriorOf = Callable[[Seat, Mapping[str, Answer]], Prior | None]


def see_stored(
    run: RunDir, seats: Mapping[str, Seat], names: Iterable[str], questions: Sequence[Question]
) -> dict[str, Seen]:
    """`see`, of what a run directory holds."""
    return see(partial(stored_answers, run), partial(voter_prior, run), seats, names, questions)


def see(
    find: Find, prior_of: PriorOf, seats: Mapping[str, Seat], names: Iterable[str], questions: Sequence[Question]
) -> dict[str, Seen]:
    """The voters of these names and those they wait for, each over all questions."""
    seen: dict[str, Seen] = {}
    waiting = list(names)
    while waiting:
        name = waiting[-1]
        seat = seats[name]
        when = when_of(seat.settings)
        if before := [other for other in (when.of if when else ()) if other not in seen]:
            waiting += before
            continue
        waiting.pop()
        if name in seen:
            continue
        asked = unclear(when, {other: seen[other].votes for other in when.of}) if when else None
        wanted = {seat.ask.key(question) for question in questions if asked is None or question.task_id in asked}
        answers = find(seat.pool, wanted)
        prior = prior_of(seat, answers)
        votes = view(name, seat.settings, seat.ask, questions, answers, prior)
        if asked is not None:
            votes = [vote if vote.task_id in asked else _skipped(vote) for vote in votes]
        seen[name] = Seen(votes, answers, prior)
    return seen


def unclear(when: WhenSettings, votes: Mapping[str, Sequence[Vote]]) -> frozenset[str]:
    """The task_ids of the questions on which the voters that a cascade waits for are too close, or silent."""
    found = set()
    for row in zip(*(votes[name] for name in when.of), strict=True):
        said = [vote.probabilities for vote in row if vote.status == "answered"]
        if not said and any(vote.status == "skipped" for vote in row):
            continue  # it was clear before those were asked
        if not said or margin(mean(said)) < when.margin_below:
            found.add(row[0].task_id)
    return frozenset(found)


def stored_answers(run: RunDir, pool: str, wanted: set[str]) -> dict[str, Answer]:
    """The answers of a pool under the wanted keys; see `first_standing`."""
    return first_standing((run.read_table(name) for name in run.files(f"answers/{pool}")), wanted)


def first_standing(tables: Iterable[pa.Table], wanted: set[str]) -> dict[str, Answer]:
    """Answers by key, of those wanted. Of several under one key an answered one counts, then the earliest.

    Two can be there when a failed ask was asked again, or when a kill came between writing a block and saying so.
    """
    found: dict[str, Answer] = {}
    keys = pa.array(sorted(wanted), pa.string())
    for table in tables:
        for row in table.filter(pc.is_in(table["key"], value_set=keys)).to_pylist():
            answer = answer_from(row)
            rival = found.get(answer.key)
            if rival is None or _standing(answer) < _standing(rival):
                found[answer.key] = answer
    return found


def _standing(answer: Answer) -> tuple[bool, float]:
    return answer.status == "failed", answer.started


def view(
    voter: str,
    settings: AskedVoter,
    ask: Ask,
    questions: Iterable[Question],
    answers: Mapping[str, Answer],
    prior: Prior | None = None,
) -> list[Vote]:
    """One voter's votes, in the order of the questions; a question that was never asked counts as failed.

    prior: the letters', for a voter that divides it out; see `voter_prior`
    """
    votes = []
    for question in questions:
        answer = answers.get(ask.key(question))
        status: VoteStatus = answer.status if answer else "failed"
        if answer and status == "answered" and _abstains(settings, answer):
            status = "abstained"
        probabilities: tuple[float, ...] = ()
        if answer and status == "answered":
            probabilities = tuple(float(p) for p in _probabilities(settings, answer, len(question.choices), prior))
        letter = pick(probabilities) if probabilities else None
        votes.append(vote_on(voter, question, status, letter, probabilities, answer.nearest if answer else None))
    return votes


def submitted(voter: str, questions: Iterable[Question], said: Mapping[str, str | None]) -> list[Vote]:
    """What another system said, in the order of the questions. What it did not say, or no choice has, is no answer.

    said: letters by task_id
    """
    votes = []
    for question in questions:
        letter = said.get(question.task_id)
        there = letter is not None and letter in letters(len(question.choices))
        votes.append(vote_on(voter, question, "answered" if there else "abstained", letter if there else None))
    return votes


def submitted_on_fit(
    voter: str, examples: Iterable[Question], said: Mapping[str, str | None], asked: frozenset[str]
) -> list[Vote]:
    """As `submitted`, on the fit split: examples that the other system did not answer say nothing of it.

    asked: task_ids of questions, which that other system may have meant by the same name
    """
    votes = []
    for example in examples:
        name = example.task_id.removeprefix(FIT)
        if name in said and name not in asked:
            votes += submitted(voter, [example], {example.task_id: said[name]})
        else:
            votes.append(vote_on(voter, example, "skipped"))
    return votes


def vote_on(
    voter: str,
    question: Question,
    status: VoteStatus,
    letter: str | None = None,
    probabilities: tuple[float, ...] = (),
    nearest: float | None = None,
) -> Vote:
    """A vote, with what rules may know of its question."""
    asked = (question.task_id, question.position, question.subject, len(question.choices))
    return Vote(voter, *asked, nearest, status, letter, probabilities)


def _skipped(vote: Vote) -> Vote:
    return replace(vote, status="skipped", letter=None, probabilities=())


def _probabilities(settings: AskedVoter, answer: Answer, size: int, prior: Prior | None) -> Probabilities:
    """What a voter makes of its ask's readings and turns: shape (size,)."""
    if settings.method == "verify":
        return verified(answer.readings, answer.turns)
    if settings.method == "verify-rank":
        return ranked(answer.readings[0], answer.turns)
    if settings.method == "sample":
        return shares(answer.readings[0], answer.turns)
    return choice_probabilities(answer.readings, None if prior is None else of_size(prior, size))


def voter_prior(run: RunDir, seat: Seat, answers: Mapping[str, Answer] | None = None) -> Prior | None:
    """What a voter divides out; None for one that does not calibrate. `answers`: the voter's own, if that is what it is
    estimated from."""
    if seat.calibration is None or seat.fits_threshold:
        return None
    if seat.calibration.questions is None:
        return _estimate((answers or {}).values())
    return stored_prior(run, seat.pool, seat.calibration)


def stored_prior(run: RunDir, pool: str, calibration: Calibration) -> Prior:
    """The prior that a pilot, or empty questions, gave: as it is written down, or else from what is stored of them."""
    name = _fitted_file(calibration)
    if run.exists(name):
        return {int(size): tuple(logs) for size, logs in json.loads(run.read(name)).items()}
    # What few real questions say is chance in part; of empty ones each says all there is to know.
    return _estimate(calibration_answers(run, pool, calibration), shrunk=calibration.split != "null")


def write_prior(run: RunDir, pool: str, calibration: Calibration) -> Prior:
    """Estimates a prior that is needed while asking, and writes it down: what is answered later is judged by the same.

    A pilot's question that failed, and is answered in another issue, changes nothing then.
    """
    prior = stored_prior(run, pool, calibration)
    if _is_told(run, pool, calibration):
        run.write(_fitted_file(calibration), json.dumps(prior).encode())
    return prior


def stored_threshold(run: RunDir, pool: str, calibration: Calibration) -> float:
    """The threshold that the fit split gave: as it is written down, or else from what is stored of it."""
    name = _fitted_file(calibration)
    if run.exists(name):
        return float(json.loads(run.read(name)))
    answers = {answer.key: answer for answer in calibration_answers(run, pool, calibration)}
    return fit_threshold(calibration.questions or (), calibration.ask, answers)


def write_threshold(run: RunDir, pool: str, calibration: Calibration) -> float:
    """As `write_prior`, of a threshold that is fitted."""
    threshold = stored_threshold(run, pool, calibration)
    if _is_told(run, pool, calibration):
        run.write(_fitted_file(calibration), json.dumps(threshold).encode())
    return threshold


def _is_told(run: RunDir, pool: str, calibration: Calibration) -> bool:
    """Whether most of what something is estimated from was answered: what few told is not written down for ever."""
    answered = sum(a.status == "answered" for a in calibration_answers(run, pool, calibration))
    return answered * 2 > len(calibration.questions or ())


def _fitted_file(calibration: Calibration) -> str:
    keys = sorted(calibration.ask.key(question) for question in calibration.questions or ())
    return f"fitted/{digest(*keys)}.json"


def calibration_answers(run: RunDir, pool: str, calibration: Calibration) -> list[Answer]:
    """What is stored of a pilot, or of empty questions; nothing of a voter's own."""
    wanted = {calibration.ask.key(question) for question in calibration.questions or ()}
    return list(stored_answers(run, pool, wanted).values()) if wanted else []


def _estimate(answers: Iterable[Answer], shrunk: bool = True) -> Prior:
    return estimate((answer.readings for answer in answers if answer.status == "answered"), shrunk)


def _abstains(settings: AskedVoter, answer: Answer) -> bool:
    """Whether nothing was near enough for a voter that answers by what is near."""
    if not isinstance(settings, RetrieveVoter) or settings.abstain_below <= 0:
        return False
    return not answer.retrieved or answer.retrieved[0].similarity < settings.abstain_below
