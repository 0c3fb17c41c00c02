"""Votes: stored answers become one Vote per voter and question, without an engine."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from codemmlu.dataset.examples import FIT
from codemmlu.inference.answer_store import stored_answers
from codemmlu.inference.calibration import calibration_answers, prior_of, stored_prior
from codemmlu.inference.learnt_evidence import LearntEvidence, learn_evidence
from codemmlu.inference.learnt_states import LearntStates, learn_states
from codemmlu.inference.methods import METHODS
from codemmlu.inference.voters import ResolvedVoter
from codemmlu.mcq import (
    Prior,
    margin,
    mean,
    pick,
)
from codemmlu.recipe import AskedVoter, EvidenceVoter, ProbeVoter, RetrieveVoter, WhenSettings, when_of
from codemmlu.run_dir import RunDir
from codemmlu.schema import Answer, Question, Vote, VoteStatus, letters


@dataclass(frozen=True)
class VoterVotes:
    """The votes of one voter.

    Attributes:
        votes: One vote for each question, in the order of the questions.
        answers: The answers behind the votes, by key.
        prior: The letter prior, where the voter divides it out.
    """

    votes: list[Vote]
    answers: dict[str, Answer]
    prior: "VoterPrior | None"


@dataclass(frozen=True)
class Response:
    """The result of a voter for one question, before the facts about the question are added.

    Attributes:
        status: See `schema.Vote`.
        letter: None without an answer.
        probabilities: Over the choices; empty without an answer, and for voters that give letters alone.
    """

    status: VoteStatus
    letter: str | None = None
    probabilities: tuple[float, ...] = ()


# What turns a voter's stored answers into probabilities: a letter prior, or the worth of observations.
VoterPrior = Prior | LearntEvidence | LearntStates
# Returns the stored answers of a pool under the wanted keys.
Find = Callable[[str, set[str]], dict[str, Answer]]
PriorOf = Callable[[ResolvedVoter, Mapping[str, Answer]], VoterPrior | None]


def load_votes(
    run: RunDir, voters: Mapping[str, ResolvedVoter], names: Iterable[str], questions: Sequence[Question]
) -> dict[str, VoterVotes]:
    """Return votes as `resolve_votes` does, from the answers of a run directory."""
    return resolve_votes(partial(stored_answers, run), partial(voter_prior, run), voters, names, questions)


def resolve_votes(
    find: Find,
    prior_of: PriorOf,
    voters: Mapping[str, ResolvedVoter],
    names: Iterable[str],
    questions: Sequence[Question],
) -> dict[str, VoterVotes]:
    """Return the votes of some voters, and of the voters that they wait for, on all questions.

    Args:
        find: Returns stored answers.
        prior_of: Returns the letter prior that a voter divides out.
        voters: All voters of the run, by name.
        names: The names of the voters to resolve.
        questions: The questions.

    Returns:
        The votes, by the name of the voter.
    """
    resolved: dict[str, VoterVotes] = {}
    waiting = list(names)
    while waiting:
        name = waiting[-1]
        voter = voters[name]
        when = when_of(voter.settings)
        if before := [other for other in (when.names if when else ()) if other not in resolved]:
            waiting += before
            continue
        waiting.pop()
        if name in resolved:
            continue
        asked = unclear(when, {other: resolved[other].votes for other in when.names}) if when else None
        wanted = {voter.spec.key(question) for question in questions if asked is None or question.task_id in asked}
        answers = find(voter.pool, wanted)
        prior = prior_of(voter, answers)
        votes = votes_from_answers(voter, questions, answers, prior)
        if asked is not None:
            votes = [vote if vote.task_id in asked else _skipped(vote) for vote in votes]
        resolved[name] = VoterVotes(votes, answers, prior)
    return resolved


def unclear(when: WhenSettings, votes: Mapping[str, Sequence[Vote]]) -> frozenset[str]:
    """Return the task_ids on which the voters that a cascade waits for are too close, or silent."""
    task_ids = set()
    for row in zip(*(votes[name] for name in when.names), strict=True):
        answered = [vote.probabilities for vote in row if vote.status == "answered"]
        if not answered and any(vote.status == "skipped" for vote in row):
            continue  # The question was clear before these voters were asked.
        if not answered or not _is_clear(when, answered):
            task_ids.add(row[0].task_id)
    return frozenset(task_ids)


def _is_clear(when: WhenSettings, answered: Sequence[tuple[float, ...]]) -> bool:
    """Tell whether the probabilities of the voters that answered decide a question."""
    if when.margin_below is not None:
        return bool(margin(mean(answered)) >= when.margin_below)
    return any(max(probabilities, default=0.0) >= when.enough for probabilities in answered)


def votes_from_answers(
    voter: ResolvedVoter,
    questions: Iterable[Question],
    answers: Mapping[str, Answer],
    prior: VoterPrior | None = None,
) -> list[Vote]:
    """Return one voter's votes; a question that was never asked counts as failed.

    Args:
        voter: The voter.
        questions: The questions.
        answers: The stored answers, by key.
        prior: The letter prior, for a voter that divides it out; see `voter_prior`.

    Returns:
        The votes, in the order of the questions.
    """
    votes = []
    for question in questions:
        answer = answers.get(voter.spec.key(question))
        status: VoteStatus = answer.status if answer else "failed"
        if answer and status == "answered" and _abstains(voter.settings, answer):
            status = "abstained"
        probabilities: tuple[float, ...] = ()
        if answer and status == "answered":
            probabilities = _probabilities(voter, question, answer, prior)
            status = status if probabilities else "abstained"
        letter = pick(probabilities) if probabilities else None
        response = Response(status, letter, probabilities)
        votes.append(vote_on(voter.name, question, response, answer.nearest if answer else None))
    return votes


def _probabilities(
    voter: ResolvedVoter, question: Question, answer: Answer, prior: VoterPrior | None
) -> tuple[float, ...]:
    """Return the probabilities of the choices; none where an observation says nothing about them."""
    if isinstance(prior, LearntEvidence | LearntStates):
        learnt = prior.probabilities(question, answer)
        return () if learnt is None else tuple(map(float, learnt))
    method = METHODS[voter.settings.method]
    return tuple(float(p) for p in method.probabilities(answer, len(question.choices), prior))


def submitted(voter: str, questions: Iterable[Question], predicted: Mapping[str, str | None]) -> list[Vote]:
    """Return the votes of another system; a letter that is missing or that no choice has is no answer.

    Args:
        voter: The name of the system.
        questions: The questions.
        predicted: The predicted letters, by task_id.

    Returns:
        The votes, in the order of the questions.
    """
    votes = []
    for question in questions:
        letter = predicted.get(question.task_id)
        valid = letter is not None and letter in letters(len(question.choices))
        votes.append(vote_on(voter, question, Response("answered", letter) if valid else Response("abstained")))
    return votes


def submitted_on_fit(
    voter: str, examples: Iterable[Question], predicted: Mapping[str, str | None], asked: frozenset[str]
) -> list[Vote]:
    """Return the votes of another system on the fit split, where a missing prediction is skipped.

    Args:
        voter: The name of the system.
        examples: The fit split.
        predicted: The predicted letters, by task_id.
        asked: The task_ids of the run's questions: a prediction under one of these may mean the question.

    Returns:
        The votes, in the order of the examples.
    """
    votes = []
    for example in examples:
        name = example.task_id.removeprefix(FIT)
        if name in predicted and name not in asked:
            votes += submitted(voter, [example], {example.task_id: predicted[name]})
        else:
            votes.append(vote_on(voter, example, Response("skipped")))
    return votes


def vote_on(voter: str, question: Question, response: Response, nearest: float | None = None) -> Vote:
    """Return a vote with the facts about the question that voting rules may use."""
    facts = (question.task_id, question.position, question.subject, len(question.choices))
    return Vote(voter, *facts, nearest, response.status, response.letter, response.probabilities)


def _skipped(vote: Vote) -> Vote:
    return replace(vote, status="skipped", letter=None, probabilities=())


def voter_prior(run: RunDir, voter: ResolvedVoter, answers: Mapping[str, Answer] | None = None) -> VoterPrior | None:
    """Return the letter prior that a voter divides out.

    Args:
        run: The run directory.
        voter: The voter.
        answers: The voter's own answers, for a voter whose prior is estimated from these.

    Returns:
        The prior; None for a voter that does not calibrate.
    """
    if voter.calibration is None or voter.fits_threshold:
        return None
    if isinstance(voter.settings, EvidenceVoter | ProbeVoter):
        learn = learn_evidence if isinstance(voter.settings, EvidenceVoter) else learn_states
        observed = {answer.key: answer for answer in calibration_answers(run, voter.pool, voter.calibration)}
        return learn(voter.spec, voter.calibration.questions, observed)
    if voter.calibration.source == "own":
        return prior_of((answers or {}).values())
    return stored_prior(run, voter.pool, voter.calibration)


def _abstains(settings: AskedVoter, answer: Answer) -> bool:
    """Tell whether a voter with method `retrieve` abstains because no example is near enough."""
    if not isinstance(settings, RetrieveVoter) or settings.abstain_below <= 0:
        return False
    return not answer.retrieved or answer.retrieved[0].similarity < settings.abstain_below
