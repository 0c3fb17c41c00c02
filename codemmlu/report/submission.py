"""submission.csv: one line per row of the source that has a task_id, in the source's order."""

import csv
import heapq
import io
from collections.abc import Iterable

from codemmlu.schema import Rejected, Verdict


def submission(verdicts: Iterable[Verdict], rejected: Iterable[Rejected], blank: str) -> tuple[str, int, int]:
    """Write the text of submission.csv.

    A rejected row that has a task_id of its own gets a line without an answer: a grader wants to see every id.

    Args:
        verdicts: In the source's order.
        rejected: In the source's order.
        blank: The text that stands for no answer.

    Returns:
        The text, the number of lines, and the number of lines without an answer.
    """
    answered = ((v.position, v.task_id, v.letter) for v in verdicts)
    unanswered = ((r.position, r.task_id, None) for r in rejected if r.task_id is not None)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    # Python before 3.13 leaves a lone \r unquoted, and then cannot read it back.
    quoting = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(["task_id", "answer"])
    lines = blanks = 0
    for _, task_id, letter in heapq.merge(answered, unanswered, key=lambda row: row[0]):
        lines, blanks = lines + 1, blanks + (letter is None)
        row = [task_id, letter or blank]
        (quoting if "\r" in "".join(row) else writer).writerow(row)
    return out.getvalue(), lines, blanks
