"""Voters as views: stored answers to one Vote per voter and question, without an engine."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from codemmlu.dataset.examples import FIT
from codemmlu.inference.answer_store import stored_answers
from codemmlu.inference.calibration import _estimate, stored_prior
from codemmlu.inference.spec import InferenceSpec
from codemmlu.inference.voters import ResolvedVoter
from codemmlu.mcq import (
    Prior,
    Probabilities,
    choice_probabilities,
    margin,
    mean,
    of_size,
    pick,
    ranked,
    shares,
    verified,
)
from codemmlu.recipe import AskedVoter, RetrieveVoter, WhenSettings, when_of
from codemmlu.run_dir import RunDir
from codemmlu.schema import Answer, Question, Vote, VoteStatus, letters


@dataclass(frozen=True)
class VoterVotes:
    """What a voter makes of what is stored: a vote for each question, in their order, and the answers behind them.

    prior: the letters', where the voter divides it out
    """

    votes: list[Vote]
    answers: dict[str, Answer]
    prior: Prior | None


# Where a voter's answers are: the pool's name and the wanted keys to what is there.
Find = Callable[[str, set[str]], dict[str, Answer]]
PriorOf = Callable[[ResolvedVoter, Mapping[str, Answer]], Prior | None]


def load_votes(
    run: RunDir, voters: Mapping[str, ResolvedVoter], names: Iterable[str], questions: Sequence[Question]
) -> dict[str, VoterVotes]:
    """`see`, of what a run directory holds."""
    return resolve_votes(partial(stored_answers, run), partial(voter_prior, run), voters, names, questions)


def resolve_votes(
    find: Find,
    prior_of: PriorOf,
    voters: Mapping[str, ResolvedVoter],
    names: Iterable[str],
    questions: Sequence[Question],
) -> dict[str, VoterVotes]:
    """The voters of these names and those they wait for, each over all questions."""
    seen: dict[str, VoterVotes] = {}
    waiting = list(names)
    while waiting:
        name = waiting[-1]
        voter = voters[name]
        when = when_of(voter.settings)
        if before := [other for other in (when.of if when else ()) if other not in seen]:
            waiting += before
            continue
        waiting.pop()
        if name in seen:
            continue
        asked = unclear(when, {other: seen[other].votes for other in when.of}) if when else None
        wanted = {voter.ask.key(question) for question in questions if asked is None or question.task_id in asked}
        answers = find(voter.pool, wanted)
        prior = prior_of(voter, answers)
        votes = votes_from_answers(name, voter.settings, voter.ask, questions, answers, prior)
        if asked is not None:
            votes = [vote if vote.task_id in asked else _skipped(vote) for vote in votes]
        seen[name] = VoterVotes(votes, answers, prior)
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


def votes_from_answers(
    voter: str,
    settings: AskedVoter,
    ask: InferenceSpec,
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


def voter_prior(run: RunDir, voter: ResolvedVoter, answers: Mapping[str, Answer] | None = None) -> Prior | None:
    """What a voter divides out; None for one that does not calibrate. `answers`: the voter's own, if that is what it is
    estimated from."""
    if voter.calibration is None or voter.fits_threshold:
        return None
    if voter.calibration.questions is None:
        return _estimate((answers or {}).values())
    return stored_prior(run, voter.pool, voter.calibration)


def _abstains(settings: AskedVoter, answer: Answer) -> bool:
    """Whether nothing was near enough for a voter that answers by what is near."""
    if not isinstance(settings, RetrieveVoter) or settings.abstain_below <= 0:
        return False
    return not answer.retrieved or answer.retrieved[0].similarity < settings.abstain_below
