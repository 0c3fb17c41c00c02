"""The numbers of a partition that add up to the numbers of the run: costs, early exits, moved questions, failures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from codemmlu.voting.costs import Costs, sum_costs

# At most this many failures are listed one by one.
MOST_FAILURES = 1000


@dataclass(frozen=True)
class Failure:
    """An answer that failed.

    Attributes:
        task_id: The question.
        voter: The voter, or `vote.fit` for an answer on the fit split.
        error: Why it failed.
    """

    task_id: str
    voter: str
    error: str


@dataclass(frozen=True)
class EarlyExit:
    """The readings that a voter took and saved.

    Attributes:
        readings: The readings that were taken.
        of: The readings that were possible.
        exited: The questions that needed fewer readings than possible.
    """

    readings: int
    of: int
    exited: int


class Score(NamedTuple):
    """How many questions a voter has right, of those that it was asked and did not fail on."""

    right: int
    asked: int


@dataclass(frozen=True)
class Sums:
    """Numbers that add up over partitions.

    Attributes:
        voters: The cost of each voter's answers.
        asks: The cost of the answers of each spec.
        early_exit: By voter that exits early, its readings.
        swaps: By voter and letter, its score with the right choice moved to the letter.
        failed: The number of answers that failed.
        swaps_failed: The number of failed answers to questions with the right choice moved.
        failures: The first failures of both kinds, at most MOST_FAILURES.
    """

    voters: dict[str, Costs]
    asks: dict[str, Costs]
    early_exit: dict[str, EarlyExit]
    swaps: dict[str, dict[str, Score]]
    failed: int
    swaps_failed: int
    failures: list[Failure]


def merge_partials(partials: Sequence[Sums]) -> Sums:
    """Return the sums of all partitions as the sums of the run."""
    first = partials[0]
    failures = [failure for partial in partials for failure in partial.failures]
    failures.sort(key=lambda failure: (failure.voter, failure.task_id))  # partitions come in any order
    return Sums(
        voters={name: sum_costs([partial.voters[name] for partial in partials]) for name in first.voters},
        asks={name: sum_costs([partial.asks[name] for partial in partials]) for name in first.asks},
        early_exit={name: _add_exits([partial.early_exit[name] for partial in partials]) for name in first.early_exit},
        swaps={
            name: {to: _add_scores([partial.swaps[name][to] for partial in partials]) for to in by_letter}
            for name, by_letter in first.swaps.items()
        },
        failed=sum(partial.failed for partial in partials),
        swaps_failed=sum(partial.swaps_failed for partial in partials),
        failures=failures[:MOST_FAILURES],
    )


def _add_exits(exits: Sequence[EarlyExit]) -> EarlyExit:
    return EarlyExit(sum(e.readings for e in exits), sum(e.of for e in exits), sum(e.exited for e in exits))


def _add_scores(scores: Sequence[Score]) -> Score:
    return Score(sum(score.right for score in scores), sum(score.asked for score in scores))
