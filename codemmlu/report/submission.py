"""submission.csv: one line per row of the source that has a task_id, in the source's order."""

import csv
import heapq
import io
from collections.abc import Iterable

from codemmlu.schema import Rejected, Verdict


def submission(verdicts: Iterable[Verdict], rejected: Iterable[Rejected], blank: str) -> tuple[str, int, int]:
    """The file's text, its lines, and how many of them have no answer. Both kinds of rows come in the source's order.

    A rejected row that has a task_id of its own gets a line without an answer: a grader wants to see every id.
    """
    said = ((v.position, v.task_id, v.letter) for v in verdicts)
    unsaid = ((r.position, r.task_id, None) for r in rejected if r.task_id is not None)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    # Python before 3.13 leaves a lone \r unquoted, and then cannot read it back.
    quoting = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(["task_id", "answer"])
    lines = blanks = 0
    for _, task_id, letter in heapq.merge(said, unsaid, key=lambda row: row[0]):
        lines, blanks = lines + 1, blanks + (letter is None)
        row = [task_id, letter or blank]
        (quoting if "\r" in "".join(row) else writer).writerow(row)
    return out.getvalue(), lines, blanks
