"""submission.csv: one line per row of the source that has a task_id, or per row of a sample submission."""

import csv
import heapq
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from codemmlu.schema import Rejected, Verdict, letters


@dataclass(frozen=True)
class SubmissionForm:
    """The form of a submission.

    Attributes:
        blank: The text that stands for no answer.
        letters: The most letters of a line, the likeliest first, with blanks between them.
        header: The names of the two columns.
        ids: The task_ids of the lines, in order; None: those of the source, in the order of the source.
    """

    blank: str = ""
    letters: int = 1
    header: tuple[str, str] = ("task_id", "answer")
    ids: tuple[str, ...] | None = None


def submission(verdicts: Iterable[Verdict], rejected: Iterable[Rejected], form: SubmissionForm) -> tuple[str, int, int]:
    """Write the text of submission.csv.

    A rejected row that has a task_id of its own gets a line without an answer: a grader wants to see every id.

    Args:
        verdicts: In the source's order.
        rejected: In the source's order.
        form: The form of the lines.

    Returns:
        The text, the number of lines, and the number of lines without an answer.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    # Python before 3.13 leaves a lone \r unquoted, and then cannot read it back.
    quoting = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(form.header)
    lines = blanks = 0
    for task_id, answer in _in_form(_answers(verdicts, rejected, form.letters), form):
        lines, blanks = lines + 1, blanks + (answer is None)
        row = [task_id, answer or form.blank]
        (quoting if "\r" in "".join(row) else writer).writerow(row)
    return out.getvalue(), lines, blanks


def _answers(verdicts: Iterable[Verdict], rejected: Iterable[Rejected], count: int) -> Iterator[tuple[str, str | None]]:
    """Return each task_id with its answer, in the source's order."""
    answered = ((v.position, v.task_id, _ranked(v, count)) for v in verdicts)
    unanswered = ((r.position, r.task_id, None) for r in rejected if r.task_id is not None)
    for _, task_id, answer in heapq.merge(answered, unanswered, key=lambda row: row[0]):
        yield task_id, answer


def _in_form(answers: Iterator[tuple[str, str | None]], form: SubmissionForm) -> Iterator[tuple[str, str | None]]:
    if form.ids is None:
        yield from answers
        return
    by_id = dict(answers)
    for task_id in form.ids:
        yield task_id, by_id.get(task_id)


def _ranked(verdict: Verdict, count: int) -> str | None:
    """Return the letter of a verdict, and after it the next likeliest ones; None without an answer."""
    if verdict.letter is None or count == 1:
        return verdict.letter
    names = letters(len(verdict.probabilities))
    by_probability = sorted(zip(verdict.probabilities, names, strict=True), key=lambda pair: -pair[0])
    others = [name for _, name in by_probability if name != verdict.letter]
    return " ".join([verdict.letter, *others][:count])
