"""The table of a report that is cut by the kind of question."""

from rich.table import Table

from codemmlu.cli.console import plain_table
from codemmlu.report.evidence_results import KindNumbers
from codemmlu.report.schema import Report


def kinds_table(report: Report) -> Table:
    """Return a line per kind: what each voter has right of what it answers; no line without labels or with one kind."""
    names = list(report.voters)
    table = plain_table("questions", *names, "vote", first="kind")
    kinds = report.kinds if report.kinds and report.labelled else {}
    for kind, numbers in kinds.items() if len(kinds) > 1 else ():
        cells = [_cell(numbers.voters[name]) for name in names]
        table.add_row(kind, f"{numbers.questions:,}", *cells, _cell(numbers.vote))
    return table


def _cell(numbers: KindNumbers) -> str:
    """Return the share of right answers among the answered questions, and the number of these."""
    share = numbers.accuracy_answered
    return "-" if share is None else f"{share:.3f} of {numbers.answered:,}"
