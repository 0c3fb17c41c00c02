"""Aggregation of one partition: stored answers become votes, columns for the statistics, and sums.

A partition is a set of questions with all answers to them. Partitions do not know of each other: numbers on all
questions are added up from the sums of the partitions.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from codemmlu.dataset.label_position import SWAPPED, with_answer_at
from codemmlu.inference.answer_store import latest_valid_answers
from codemmlu.inference.voters import Ensemble, ResolvedVoter
from codemmlu.inference.votes import VoterVotes, resolve_votes, submitted, unclear, votes_from_answers
from codemmlu.mcq import Prior, letter_prior, orders
from codemmlu.recipe import when_of
from codemmlu.schema import Answer, Question, Vote, question_from, to_table
from codemmlu.voting.vote_columns import vote_columns

# At most this many failures are listed one by one.
MOST_FAILURES = 1000


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
        return latest_valid_answers(self.answers.get(pool, ()), wanted)


@dataclass(frozen=True)
class Tally:
    """The result of aggregating one partition.

    Attributes:
        votes: One row per voter and question; see `schema.VOTE`.
        columns: One row per question; see `vote_columns`.
        sums: The numbers that add up over partitions; see `_sums`.
    """

    votes: pa.Table
    columns: pa.Table
    sums: dict[str, Any]


def own_prior_sums(
    partition: Partition, ensemble: Ensemble, names: Sequence[str], priors: Mapping[str, Prior | None]
) -> dict[str, Any]:
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
            when.of if when else (),
            partition.questions,
        )
        asked = unclear(when, {other: before[other].votes for other in when.of}) if when else None
        own_keys = {voter.spec.key(q) for q in partition.questions if asked is None or q.task_id in asked}
        readings = (
            answer.readings for answer in partition.find(voter.pool, own_keys).values() if answer.status == "answered"
        )
        sums_by_voter[name] = letter_prior.sums(readings)
    return sums_by_voter


def needs_own_prior(voter: ResolvedVoter) -> bool:
    """Return whether a voter's prior is estimated from all of the voter's own answers."""
    return voter.calibration is not None and voter.calibration.questions is None


def waits_for(ensemble: Ensemble, name: str) -> set[str]:
    """Return the voters whose votes decide what a voter is asked, and the voters that these wait for."""
    when = when_of(ensemble.voters[name].settings)
    before: set[str] = set()
    waiting = list(when.of) if when else []
    while waiting:  # Many ways may lead to one voter, which is looked at once.
        other = waiting.pop()
        if other not in before:
            before.add(other)
            condition = when_of(ensemble.voters[other].settings)
            waiting += condition.of if condition else ()
    return before


def aggregate(partition: Partition, ensemble: Ensemble, priors: Mapping[str, Prior | None]) -> Tally:
    """Return all voters' votes on a partition; `priors` holds the prior that each voter divides out."""
    seen = resolve_votes(
        partition.find, lambda voter, _: priors[voter.name], ensemble.voters, ensemble.voters, partition.questions
    )
    votes = {name: seen[name].votes for name in ensemble.voters}
    votes |= {
        name: submitted(name, partition.questions, submission) for name, submission in ensemble.submissions.items()
    }
    sums = _sums(ensemble, seen)
    swaps, swap_failures = _swaps(partition, ensemble, priors)
    sums |= {"swaps": swaps, "swaps_failed": len(swap_failures)}
    sums["failures"] = [*sums["failures"], *swap_failures][:MOST_FAILURES]
    return Tally(
        to_table((vote for voter_votes in votes.values() for vote in voter_votes), Vote),
        vote_columns(partition.questions, ensemble, votes, seen),
        sums,
    )


def _sums(ensemble: Ensemble, seen: Mapping[str, VoterVotes]) -> dict[str, Any]:
    """Return sums over answers: costs by voter and by spec, early exits, and failures with their errors."""
    answers_by_spec: dict[str, dict[str, Answer]] = {}
    failures = []
    for name, voter in ensemble.voters.items():
        answers_by_spec.setdefault(voter.spec.name, {}).update(seen[name].answers)
        failures += _failures(name, seen[name].answers.values())
    return {
        "voters": {name: cost_sums(seen[name].answers.values()) for name in ensemble.voters},
        "asks": {name: cost_sums(answers.values()) for name, answers in answers_by_spec.items()},
        "early_exit": {
            name: _early_exit(voter, seen[name].answers.values())
            for name, voter in ensemble.voters.items()
            if voter.exits_early
        },
        "failed": len(failures),
        "failures": failures[:MOST_FAILURES],
    }


def _failures(voter: str, answers: Iterable[Answer]) -> list[dict[str, str]]:
    failed = (answer for answer in answers if answer.status == "failed")
    return [{"task_id": answer.task_id, "voter": voter, "error": answer.error or ""} for answer in failed]


def _swaps(
    partition: Partition, ensemble: Ensemble, priors: Mapping[str, Prior | None]
) -> tuple[dict[str, dict[str, list[int]]], list[dict[str, str]]]:
    """Return how each voter does with the right choice moved to each letter.

    Returns:
        By voter and letter, the number of moved questions that the voter has right, and the number that the voter was
        asked and did not fail on; and the failures.
    """
    counts: dict[str, dict[str, list[int]]] = {}
    failures: list[dict[str, str]] = []
    for name in ensemble.swapped:
        voter = ensemble.voters[name]
        # Where the right choice is at the letter already, the moved question has the key of the original one.
        own = {voter.spec.key(question) for question in partition.questions}
        counts[name] = {}
        for to in SWAPPED:
            questions = [swapped for question in partition.questions if (swapped := with_answer_at(question, to))]
            answers = partition.find(voter.pool, {voter.spec.key(question) for question in questions})
            failures += _failures(name, (answer for key, answer in answers.items() if key not in own))
            votes = votes_from_answers(voter, questions, answers, priors[name])
            asked = [vote for vote in votes if vote.status != "failed"]
            counts[name][to] = [sum(vote.letter == to for vote in asked), len(asked)]
    return counts, failures


def cost_sums(answers: Iterable[Answer]) -> dict[str, Any]:
    """Return what answers cost.

    Returns:
        Token counts, the numbers of readings and turns, `mass`, the sum over all readings, and `under_way`, the times
        at which at least one of the answers was in progress.
    """
    sums: dict[str, Any] = dict.fromkeys(("prompt_tokens", "cached_tokens", "generated_tokens", "readings", "turns"), 0)
    mass, spans = 0.0, []
    for answer in answers:
        for name in ("prompt_tokens", "cached_tokens", "generated_tokens"):
            sums[name] += getattr(answer, name)
        sums["readings"] += len(answer.readings)
        sums["turns"] += len(answer.turns)
        mass += sum(reading.mass for reading in answer.readings if math.isfinite(reading.mass))
        spans.append((answer.started, answer.started + answer.seconds))
    return sums | {"mass": mass, "under_way": together(spans)}


def together(spans: Iterable[Sequence[float]]) -> list[list[float]]:
    """Return the union of time spans, as spans that do not touch."""
    union: list[list[float]] = []
    for start, end in sorted(map(tuple, spans)):
        if union and start <= union[-1][1]:
            union[-1][1] = max(union[-1][1], end)
        else:
            union.append([start, end])
    return union


def sum_costs(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sum of the costs of different answers."""
    names = [name for name in cost_sums(()) if name != "under_way"]
    spans = [span for cost in costs for span in cost["under_way"]]
    return {name: sum(cost[name] for cost in costs) for name in names} | {"under_way": together(spans)}


def merge_partials(partials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sums of all partitions as the sums of the run."""

    def of(group: str) -> dict[str, Any]:
        return {name: sum_costs([partial[group][name] for partial in partials]) for name in partials[0][group]}

    exits = {
        name: {key: sum(partial["early_exit"][name][key] for partial in partials) for key in counts}
        for name, counts in partials[0]["early_exit"].items()
    }
    failures = [failure for partial in partials for failure in partial["failures"]]
    failures.sort(key=lambda failure: (failure["voter"], failure["task_id"]))  # partitions come in any order
    swaps = {
        name: {
            to: [sum(partial["swaps"][name][to][index] for partial in partials) for index in (0, 1)] for to in by_letter
        }
        for name, by_letter in partials[0]["swaps"].items()
    }
    return {
        "voters": of("voters"),
        "asks": of("asks"),
        "early_exit": exits,
        "swaps": swaps,
        "failed": sum(partial["failed"] for partial in partials),
        "swaps_failed": sum(partial["swaps_failed"] for partial in partials),
        "failures": failures[:MOST_FAILURES],
    }


def _early_exit(voter: ResolvedVoter, answers: Iterable[Answer]) -> dict[str, int]:
    """Return the readings taken, the readings possible, and the questions that exited early."""
    readings = voter.spec.option("readings")
    pairs = [
        (len(answer.readings), len(orders(len(answer.readings[0].order), readings, "")))
        for answer in answers
        if answer.status == "answered"
    ]
    return {
        "readings": sum(taken for taken, _ in pairs),
        "of": sum(most for _, most in pairs),
        "exited": sum(taken < most for taken, most in pairs),
    }
