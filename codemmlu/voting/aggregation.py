"""The tally of a part of the questions: stored answers become votes, columns for statistics, and sums.

A part is some questions with all answers to them. Parts know nothing of each other; what is said of all questions is
added up from what each part says.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from codemmlu.dataset.label_position import SWAPPED, with_answer_at
from codemmlu.inference.answer_store import latest_valid_answers
from codemmlu.inference.voters import Ensemble, ResolvedVoter
from codemmlu.inference.votes import VoterVotes, resolve_votes, submitted, unclear, votes_from_answers
from codemmlu.mcq import Prior, is_finite, letter_prior, orders
from codemmlu.recipe import DirectVoter, when_of
from codemmlu.schema import Answer, Question, Vote, letters, question_from, to_table
from codemmlu.voting.ballots import STATUSES

# As many failures are told one by one.
MOST_FAILURES = 1000
_NOBODY = -1
_VERBATIM = {None: -1, False: 0, True: 1}


@dataclass(frozen=True)
class Partition:
    """Some questions, and per pool the tables of answers to them."""

    questions: tuple[Question, ...]
    answers: Mapping[str, Sequence[pa.Table]]

    @staticmethod
    def of(questions: pa.Table, answers: Mapping[str, Sequence[pa.Table]]) -> "Partition":
        """From tables, in whatever order their rows come."""
        rows = sorted(map(question_from, questions.to_pylist()), key=lambda question: question.position)
        return Partition(tuple(rows), answers)

    def find(self, pool: str, wanted: set[str]) -> dict[str, Answer]:
        """See views.Find."""
        return latest_valid_answers(self.answers.get(pool, ()), wanted)


@dataclass(frozen=True)
class Tally:
    """What a part says. votes: see VOTE; columns: a row per question, see `_columns`; sums: see `_sums`."""

    votes: pa.Table
    columns: pa.Table
    sums: dict[str, Any]


def own_prior_sums(
    part: Partition, ensemble: Ensemble, names: Sequence[str], priors: Mapping[str, Prior | None]
) -> dict[str, Any]:
    """For voters that divide out what all their own answers say: the sums that a prior is made of, by voter.

    names: of which; priors: of those that they wait for. What is stored besides, of an issue in which a voter was asked
    more, is not its own.
    """
    found = {}
    for name in names:
        voter = ensemble.voters[name]
        when = when_of(voter.settings)
        before = resolve_votes(
            part.find, lambda voter, _: priors[voter.name], ensemble.voters, when.of if when else (), part.questions
        )
        asked = unclear(when, {other: before[other].votes for other in when.of}) if when else None
        its = {voter.ask.key(q) for q in part.questions if asked is None or q.task_id in asked}
        told = (answer.readings for answer in part.find(voter.pool, its).values() if answer.status == "answered")
        found[name] = letter_prior.sums(told)
    return found


def needs_own_prior(voter: ResolvedVoter) -> bool:
    """Whether a voter's prior is estimated from all of its own answers."""
    return voter.calibration is not None and voter.calibration.questions is None


def waits_for(ensemble: Ensemble, name: str) -> set[str]:
    """The voters whose votes say what a voter is asked, and those who say what these are."""
    when = when_of(ensemble.voters[name].settings)
    return {*when.of}.union(*(waits_for(ensemble, other) for other in when.of)) if when else set()


def aggregate(part: Partition, ensemble: Ensemble, priors: Mapping[str, Prior | None]) -> Tally:
    """The votes of all voters on a part. priors: by voter, what it divides out."""
    seen = resolve_votes(
        part.find, lambda voter, _: priors[voter.name], ensemble.voters, ensemble.voters, part.questions
    )
    votes = {name: seen[name].votes for name in ensemble.voters}
    votes |= {name: submitted(name, part.questions, said) for name, said in ensemble.submissions.items()}
    sums = _sums(ensemble, seen)
    swaps, broken = _swaps(part, ensemble, priors)
    sums |= {"swaps": swaps, "swaps_failed": len(broken)}
    sums["failures"] = [*sums["failures"], *broken][:MOST_FAILURES]
    return Tally(
        to_table((vote for its in votes.values() for vote in its), Vote),
        _columns(part.questions, ensemble, votes, seen),
        sums,
    )


def _columns(
    questions: Sequence[Question], ensemble: Ensemble, votes: Mapping[str, list[Vote]], seen: Mapping[str, VoterVotes]
) -> pa.Table:
    """What statistics need, some forty bytes a question: the right letter, the size, and each voter's letter.

    Letters are numbers from 0, -1 where there is none; verbatim is -1 where nobody looked.
    """
    names = letters(26)
    verbatim: dict[str, int] = {}
    nearest: dict[str, float] = {}
    for one in seen.values():
        for answer in one.answers.values():
            if answer.verbatim is not None:
                verbatim[answer.task_id] = _VERBATIM[answer.verbatim]
                nearest[answer.task_id] = np.nan if answer.nearest is None else answer.nearest
    columns: dict[str, Any] = {
        "position": pa.array([q.position for q in questions], pa.int64()),
        "choices": pa.array([len(q.choices) for q in questions], pa.int8()),
        "right": pa.array([_NOBODY if q.answer is None else names.index(q.answer) for q in questions], pa.int8()),
        "characters": pa.array([len(q.question) + sum(map(len, q.choices)) for q in questions], pa.int32()),
        "subject": pa.array([q.subject for q in questions], pa.string()).dictionary_encode(),
        "verbatim": pa.array([verbatim.get(q.task_id, -1) for q in questions], pa.int8()),
        "nearest": pa.array([nearest.get(q.task_id, np.nan) for q in questions], pa.float32()),
    }
    for name, its in votes.items():
        columns[f"status/{name}"] = pa.array([STATUSES.index(vote.status) for vote in its], pa.int8())
        columns[f"letter/{name}"] = pa.array(
            [_NOBODY if vote.letter is None else names.index(vote.letter) for vote in its], pa.int8()
        )
        sure = [max(vote.probabilities, default=np.nan) for vote in its]
        columns[f"sure/{name}"] = pa.array(sure, pa.float32())
    for name, voter in ensemble.voters.items():
        if voter.ask.method == "sample":
            alone = _reading_alone(voter, seen[name], questions)
            columns[f"alone/{name}"] = pa.array(
                [_NOBODY if one is None else names.index(one) for one in alone], pa.int8()
            )
    return pa.table(columns)


def _reading_alone(voter: ResolvedVoter, seen: VoterVotes, questions: Sequence[Question]) -> list[str | None]:
    """What the one reading beside `sample`'s replies says by itself."""
    as_read = DirectVoter(model=voter.pool)
    answers = {
        key: replace(answer, status="answered") if answer.readings and is_finite(answer.readings[0]) else answer
        for key, answer in seen.answers.items()
    }
    return [vote.letter for vote in votes_from_answers(voter.name, as_read, voter.ask, questions, answers)]


def _sums(ensemble: Ensemble, seen: Mapping[str, VoterVotes]) -> dict[str, Any]:
    """What adds up: costs by voter and by ask, early exits, and who failed why."""
    asks: dict[str, dict[str, Answer]] = {}
    failures = []
    for name, voter in ensemble.voters.items():
        asks.setdefault(voter.ask.name, {}).update(seen[name].answers)
        failures += _failures(name, seen[name].answers.values())
    return {
        "voters": {name: cost_sums(seen[name].answers.values()) for name in ensemble.voters},
        "asks": {name: cost_sums(its.values()) for name, its in asks.items()},
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
    part: Partition, ensemble: Ensemble, priors: Mapping[str, Prior | None]
) -> tuple[dict[str, dict[str, list[int]]], list[dict[str, str]]]:
    """By voter and letter: how many questions with the right choice moved there it has right, and of how many that it
    was asked. And which of these failed."""
    found: dict[str, dict[str, list[int]]] = {}
    failures: list[dict[str, str]] = []
    for name in ensemble.swapped:
        voter = ensemble.voters[name]
        own = {voter.ask.key(question) for question in part.questions}  # the right choice may stand there already
        found[name] = {}
        for to in SWAPPED:
            moved = [one for question in part.questions if (one := with_answer_at(question, to))]
            answers = part.find(voter.pool, {voter.ask.key(question) for question in moved})
            failures += _failures(name, (one for key, one in answers.items() if key not in own))
            its = votes_from_answers(name, voter.settings, voter.ask, moved, answers, priors[name])
            asked = [vote for vote in its if vote.status != "failed"]
            found[name][to] = [sum(vote.letter == to for vote in asked), len(asked)]
    return found, failures


def cost_sums(answers: Iterable[Answer]) -> dict[str, Any]:
    """What answers cost. under_way: the times at which at least one of them was; mass: of all readings together."""
    found: dict[str, Any] = dict.fromkeys(
        ("prompt_tokens", "cached_tokens", "generated_tokens", "readings", "turns"), 0
    )
    mass, spans = 0.0, []
    for answer in answers:
        for name in ("prompt_tokens", "cached_tokens", "generated_tokens"):
            found[name] += getattr(answer, name)
        found["readings"] += len(answer.readings)
        found["turns"] += len(answer.turns)
        mass += sum(reading.mass for reading in answer.readings if math.isfinite(reading.mass))
        spans.append((answer.started, answer.started + answer.seconds))
    return found | {"mass": mass, "under_way": together(spans)}


def together(spans: Iterable[Sequence[float]]) -> list[list[float]]:
    """The times that at least one of some spans covers, as spans that do not touch."""
    found: list[list[float]] = []
    for start, end in sorted(map(tuple, spans)):
        if found and start <= found[-1][1]:
            found[-1][1] = max(found[-1][1], end)
        else:
            found.append([start, end])
    return found


def sum_costs(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Costs of different answers, together."""
    names = [name for name in cost_sums(()) if name != "under_way"]
    spans = [span for cost in costs for span in cost["under_way"]]
    return {name: sum(cost[name] for cost in costs) for name in names} | {"under_way": together(spans)}


def merge_partials(several: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The sums of all parts."""

    def of(group: str) -> dict[str, Any]:
        return {name: sum_costs([one[group][name] for one in several]) for name in several[0][group]}

    exits = {
        name: {key: sum(one["early_exit"][name][key] for one in several) for key in counts}
        for name, counts in several[0]["early_exit"].items()
    }
    failures = [failure for one in several for failure in one["failures"]]
    failures.sort(key=lambda failure: (failure["voter"], failure["task_id"]))  # parts come in any order
    swaps = {
        name: {to: [sum(one["swaps"][name][to][place] for one in several) for place in (0, 1)] for to in by_letter}
        for name, by_letter in several[0]["swaps"].items()
    }
    return {
        "voters": of("voters"),
        "asks": of("asks"),
        "early_exit": exits,
        "swaps": swaps,
        "failed": sum(one["failed"] for one in several),
        "swaps_failed": sum(one["swaps_failed"] for one in several),
        "failures": failures[:MOST_FAILURES],
    }


def _early_exit(voter: ResolvedVoter, answers: Iterable[Answer]) -> dict[str, int]:
    """How many readings an early exit took of how many there could be, and how many questions it left early."""
    readings = voter.ask.setting("readings")
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
