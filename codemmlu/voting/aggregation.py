"""Aggregation of one partition: stored answers become votes, columns for the statistics, and sums.

A partition is a set of questions with all answers to them. Partitions do not know of each other: numbers on all
questions are added up from the sums of the partitions.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from codemmlu.dataset.label_position import SWAPPED, with_answer_at
from codemmlu.inference.answer_store import earliest_valid_answers
from codemmlu.inference.voters import Ensemble, ResolvedVoter
from codemmlu.inference.votes import VoterPrior, VoterVotes, resolve_votes, submitted, unclear, votes_from_answers
from codemmlu.mcq import letter_prior, orders
from codemmlu.recipe import when_of
from codemmlu.schema import Answer, Question, Vote, question_from, to_table
from codemmlu.voting.costs import cost_sums
from codemmlu.voting.sums import MOST_FAILURES, EarlyExit, Failure, Score, Sums
from codemmlu.voting.vote_columns import vote_columns

# By number of choices, what `letter_prior.of_sums` adds up over partitions.
PriorSums = list[tuple[int, list[float]]]


@dataclass(frozen=True)
class Partition:
    """Some questions with all answers to them.

    Attributes:
        questions: In the order of their positions.
        answers: Tables of answers by engine pool.
    """

    questions: tuple[Question, ...]
    answers: Mapping[str, Sequence[pa.Table]]

    @staticmethod
    def of(questions: pa.Table, answers: Mapping[str, Sequence[pa.Table]]) -> "Partition":
        """Return the partition of these tables, in whatever order their rows come."""
        rows = sorted(map(question_from, questions.to_pylist()), key=lambda question: question.position)
        return Partition(tuple(rows), answers)

    def find(self, pool: str, wanted: set[str]) -> dict[str, Answer]:
        """Return the answers of a pool to the wanted keys, by key; see `inference.votes.Find`."""
        return earliest_valid_answers(self.answers.get(pool, ()), wanted)


@dataclass(frozen=True)
class Tally:
    """The result of aggregating one partition.

    Attributes:
        votes: One row per voter and question; see `schema.VOTE`.
        columns: One row per question; see `vote_columns`.
        sums: The numbers that add up over partitions.
    """

    votes: pa.Table
    columns: pa.Table
    sums: Sums


def own_prior_sums(
    partition: Partition, ensemble: Ensemble, names: Sequence[str], priors: Mapping[str, VoterPrior | None]
) -> dict[str, PriorSums]:
    """Return the sums behind the priors of voters that divide out the mean of all their own answers.

    Answers that an earlier attempt stored for a voter, which was then asked more questions, are not the voter's own.

    Args:
        partition: The questions and their answers.
        ensemble: All voters of the run.
        names: The voters whose sums are returned.
        priors: The priors of the voters that the named voters wait for.

    Returns:
        By voter, the result of `letter_prior.sums`.
    """
    sums_by_voter = {}
    for name in names:
        voter = ensemble.voters[name]
        when = when_of(voter.settings)
        before = resolve_votes(
            partition.find,
            lambda voter, _: priors[voter.name],
            ensemble.voters,
            when.names if when else (),
            partition.questions,
        )
        asked = unclear(when, {other: before[other].votes for other in when.names}) if when else None
        own_keys = {voter.spec.key(q) for q in partition.questions if asked is None or q.task_id in asked}
        readings = (
            answer.readings for answer in partition.find(voter.pool, own_keys).values() if answer.status == "answered"
        )
        sums_by_voter[name] = letter_prior.sums(readings)
    return sums_by_voter


def needs_own_prior(voter: ResolvedVoter) -> bool:
    """Return whether a voter's prior is estimated from all of the voter's own answers."""
    return voter.calibration is not None and voter.calibration.source == "own"


def waits_for(ensemble: Ensemble, name: str) -> set[str]:
    """Return the voters whose votes decide what a voter is asked, and the voters that these wait for."""
    when = when_of(ensemble.voters[name].settings)
    before: set[str] = set()
    waiting = list(when.names) if when else []
    while waiting:  # Many ways may lead to one voter, which is looked at once.
        other = waiting.pop()
        if other not in before:
            before.add(other)
            condition = when_of(ensemble.voters[other].settings)
            waiting += condition.names if condition else ()
    return before


def aggregate(partition: Partition, ensemble: Ensemble, priors: Mapping[str, VoterPrior | None]) -> Tally:
    """Return all voters' votes on a partition; `priors` holds the prior that each voter divides out."""
    seen = resolve_votes(
        partition.find, lambda voter, _: priors[voter.name], ensemble.voters, ensemble.voters, partition.questions
    )
    votes = {name: seen[name].votes for name in ensemble.voters}
    votes |= {
        name: submitted(name, partition.questions, submission) for name, submission in ensemble.submissions.items()
    }
    sums = _sums(ensemble, seen, *_swaps(partition, ensemble, priors))
    return Tally(
        to_table((vote for voter_votes in votes.values() for vote in voter_votes), Vote),
        vote_columns(partition.questions, ensemble, votes, seen),
        sums,
    )


def _sums(
    ensemble: Ensemble,
    seen: Mapping[str, VoterVotes],
    swaps: dict[str, dict[str, Score]],
    swap_failures: Sequence[Failure],
) -> Sums:
    """Return the sums of a partition: of each voter's answers, with the result of `_swaps`."""
    answers_by_spec: dict[str, dict[str, Answer]] = {}
    failures: list[Failure] = []
    for name, voter in ensemble.voters.items():
        answers_by_spec.setdefault(voter.spec.name, {}).update(seen[name].answers)
        failures += _failures(name, seen[name].answers.values())
    return Sums(
        voters={name: cost_sums(seen[name].answers.values()) for name in ensemble.voters},
        asks={name: cost_sums(answers.values()) for name, answers in answers_by_spec.items()},
        early_exit={
            name: _early_exit(voter, seen[name].answers.values())
            for name, voter in ensemble.voters.items()
            if voter.exits_early
        },
        swaps=swaps,
        failed=len(failures),
        swaps_failed=len(swap_failures),
        failures=[*failures, *swap_failures][:MOST_FAILURES],
    )


def _failures(voter: str, answers: Iterable[Answer]) -> list[Failure]:
    failed = (answer for answer in answers if answer.status == "failed")
    return [Failure(answer.task_id, voter, answer.error or "") for answer in failed]


def _swaps(
    partition: Partition, ensemble: Ensemble, priors: Mapping[str, VoterPrior | None]
) -> tuple[dict[str, dict[str, Score]], list[Failure]]:
    """Return how each voter does with the right choice moved to each letter.

    Returns:
        By voter and letter, the voter's score on the moved questions; and the failures.
    """
    scores: dict[str, dict[str, Score]] = {}
    failures: list[Failure] = []
    for name in ensemble.swapped:
        voter = ensemble.voters[name]
        # Where the right choice is at the letter already, the moved question has the key of the original one.
        own = {voter.spec.key(question) for question in partition.questions}
        scores[name] = {}
        for to in SWAPPED:
            questions = [swapped for question in partition.questions if (swapped := with_answer_at(question, to))]
            answers = partition.find(voter.pool, {voter.spec.key(question) for question in questions})
            failures += _failures(name, (answer for key, answer in answers.items() if key not in own))
            votes = votes_from_answers(voter, questions, answers, priors[name])
            asked = [vote for vote in votes if vote.status != "failed"]
            scores[name][to] = Score(sum(vote.letter == to for vote in asked), len(asked))
    return scores, failures


def _early_exit(voter: ResolvedVoter, answers: Iterable[Answer]) -> EarlyExit:
    readings = voter.spec.option("readings")
    pairs = [
        (len(answer.readings), len(orders(len(answer.readings[0].order), readings, "")))
        for answer in answers
        if answer.status == "answered"
    ]
    return EarlyExit(
        readings=sum(taken for taken, _ in pairs),
        of=sum(most for _, most in pairs),
        exited=sum(taken < most for taken, most in pairs),
    )
