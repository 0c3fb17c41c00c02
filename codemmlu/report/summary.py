"""The numbers of a run: report.json, from questions, votes and verdicts."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from codemmlu.retrieval.texts import TWINS
from codemmlu.rows import Answer, Question, Verdict, Vote
from codemmlu.scoring import Readings, orders


def wilson(right: int, asked: int) -> list[float] | None:
    """The 95 % interval of a proportion (Wilson 1927). None of nothing."""
    if not asked:
        return None
    from scipy import stats  # slow to import, and only the end of a run needs it

    interval = stats.binomtest(right, asked).proportion_ci(confidence_level=0.95, method="wilson")
    return [float(interval.low), float(interval.high)]


def chance(questions: Iterable[Question]) -> float | None:
    """The accuracy of guessing on the labelled questions: the mean of 1 / number of choices."""
    odds = [1 / len(question.choices) for question in questions if question.answer]
    return sum(odds) / len(odds) if odds else None


def busy_seconds(answers: Iterable[Answer]) -> float:
    """How long at least one ask was under way: start-up and the time between two issues of a run do not count."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted((answer.started, answer.started + answer.seconds) for answer in answers):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


# Votes that say nothing about a voter: it broke, or was not asked.
_NOT_ASKED = ("failed", "skipped")


def voter_summary(
    questions: Sequence[Question],
    votes: Sequence[Vote],
    answers: Sequence[Answer],
    costs: Sequence[Answer] | None = None,
) -> dict[str, Any]:
    """One voter's numbers: accuracies (null without labels), counts, cost as if it stood alone, letters said.

    answers: the voter's own; costs: all that had to be asked for it, None: the same
    """
    costs = answers if costs is None else costs
    status = Counter(vote.status for vote in votes)
    asked = _asked(questions, votes)
    right = sum(v.letter == q.answer for q, v in asked)
    answered = sum(v.status == "answered" for _, v in asked)
    masses = [reading.mass for answer in answers for reading in answer.readings]
    told = cost(costs)
    guessed = chance([question for question, _ in asked])
    above = right / len(asked) - guessed if asked and guessed is not None else None
    return {
        "accuracy": right / len(asked) if asked else None,
        "accuracy_answered": right / answered if answered else None,
        "interval": wilson(right, len(asked)),
        "answered": status["answered"],
        "abstained": status["abstained"],
        "failed": status["failed"],
        "skipped": status["skipped"],
        **told,
        "above_chance_per_million_computed": (
            above * 1e6 / told["computed_tokens"] if above is not None and told["computed_tokens"] else None
        ),
        "letters_said": letter_counts(vote.letter for vote in votes),
        "coverage": coverage_curve(questions, votes),
        "letter_mass": sum(masses) / len(masses) if masses else None,
    }


def accuracy(questions: Sequence[Question], votes: Sequence[Vote]) -> float | None:
    """Right answers among the labelled questions that were asked; None of nothing."""
    asked = _asked(questions, votes)
    return sum(vote.letter == question.answer for question, vote in asked) / len(asked) if asked else None


def cost(answers: Sequence[Answer]) -> dict[str, Any]:
    """What answers cost. computed: tokens that went through the model, and were not in its cache."""
    prompt, cached, generated = (
        sum(getattr(answer, name) for answer in answers)
        for name in ("prompt_tokens", "cached_tokens", "generated_tokens")
    )
    return {
        "prompt_tokens": prompt,
        "cached_tokens": cached,
        "generated_tokens": generated,
        "computed_tokens": prompt - cached + generated,
        "readings": sum(len(answer.readings) for answer in answers),
        "turns": sum(len(answer.turns) for answer in answers),
        "seconds": busy_seconds(answers),
    }


def early_exit(answers: Iterable[Answer], readings: Readings) -> dict[str, int]:
    """How many readings an early exit took of how many there could be, and how many questions it left early."""
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


def vote_summary(
    rule: str, questions: Sequence[Question], verdicts: Sequence[Verdict], all_failed: set[str]
) -> dict[str, Any]:
    """The verdicts' numbers, with the voters' denominators: a question that every voter failed on is excluded."""
    asked = [(q, v) for q, v in zip(questions, verdicts, strict=True) if q.answer and q.task_id not in all_failed]
    right = sum(v.letter == q.answer for q, v in asked)
    return {
        "rule": rule,
        "accuracy": right / len(asked) if asked else None,
        "interval": wilson(right, len(asked)),
        "answered": sum(v.letter is not None for v in verdicts),
        "letters_said": letter_counts(v.letter for v in verdicts),
    }


def coverage_curve(questions: Sequence[Question], votes: Sequence[Vote]) -> list[dict[str, Any]]:
    """Accuracy on the share of labelled questions that a voter is surest of, in tenths.

    Surest: by the probability of its answer; of equally sure ones the first in the file comes first.
    """
    asked = _asked(questions, votes)
    said = sorted(
        ((-round(max(v.probabilities), 6), q.position, v.letter == q.answer) for q, v in asked if v.probabilities)
    )
    curve = []
    for tenth in range(1, 11):
        count = round(len(asked) * tenth / 10)
        if 0 < count <= len(said):
            right = sum(is_right for *_, is_right in said[:count])
            curve.append({"coverage": count / len(asked), "accuracy": right / count, "surer_than": -said[count - 1][0]})
    return curve


def leakage(
    questions: Sequence[Question], votes: Mapping[str, Sequence[Vote]], answers: Iterable[Answer]
) -> dict[str, Any] | None:
    """How many questions stand among the examples, and every voter's accuracy with and without them.

    verbatim: an example has the same normalised text; near: or a cosine of at least 0.97. None: nobody looked.
    """
    seen = {answer.task_id: answer for answer in answers if answer.verbatim is not None}
    if not seen:
        return None
    verbatim = {name for name, answer in seen.items() if answer.verbatim}
    near = {name for name, answer in seen.items() if answer.nearest is not None and answer.nearest >= TWINS}
    leaked = verbatim | near
    table = {}
    for voter, its in votes.items():
        asked = _asked(questions, its)
        parts = {
            "leaked": [v.letter == q.answer for q, v in asked if q.task_id in leaked],
            "rest": [v.letter == q.answer for q, v in asked if q.task_id in seen and q.task_id not in leaked],
        }
        table[voter] = {
            name: {"asked": len(part), "accuracy": sum(part) / len(part) if part else None}
            for name, part in parts.items()
        }
    return {
        "looked_up": len(seen),
        "verbatim": len(verbatim),
        "near_verbatim": len(leaked),
        "threshold": TWINS,
        "voters": table,
    }


def order_sensitivity(by_letter: Mapping[str, tuple[Sequence[Question], Sequence[Vote]]]) -> dict[str, Any]:
    """Accuracy with the right choice at each letter in turn, and how far apart these are.

    by_letter: the swapped questions and one voter's votes on them; std: of the accuracies, over these letters alone
    """
    accuracies, asked = {}, 0
    for letter, (questions, votes) in by_letter.items():
        said = _asked(questions, votes)
        asked = max(asked, len(said))
        accuracies[letter] = sum(v.letter == q.answer for q, v in said) / len(said) if said else None
    known = [value for value in accuracies.values() if value is not None]
    return {"asked": asked, "accuracy": accuracies, "std": statistics.pstdev(known) if known else None}


def _asked(questions: Sequence[Question], votes: Sequence[Vote]) -> list[tuple[Question, Vote]]:
    """The labelled questions that a voter was asked, with its votes."""
    both = zip(questions, votes, strict=True)
    return [(question, vote) for question, vote in both if question.answer and vote.status not in _NOT_ASKED]


def letter_counts(letters: Iterable[str | None]) -> dict[str, int]:
    """How often each letter stands there, in the order of the alphabet."""
    return dict(sorted(Counter(letter for letter in letters if letter).items()))
