"""The figures of the report: which figures a report has, and the figures stored with it."""

import json
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from codemmlu.recipe import digest
from codemmlu.report import canvas, charts
from codemmlu.report.schema import Report
from codemmlu.run_dir import RunDir

_STORED = ".figures.json"
# The modules that a stored figure depends on.
_SOURCES = (__file__, charts.__file__, canvas.__file__)


def stored_figures(run: RunDir, report: Report) -> list[canvas.Figure]:
    """Return a report's figures, and draw them only where the run directory has none of the same report.

    Importing matplotlib and drawing are half of the CPU seconds of a run that has no inference left to do.

    Args:
        run: The run directory.
        report: The results of the run.

    Returns:
        See `figures`.
    """
    sources = [Path(file).read_text(encoding="utf-8") for file in _SOURCES]
    source = digest(report.model_dump(mode="json"), sources, metadata.version("matplotlib"))
    if run.exists(_STORED):
        with suppress(ValueError, TypeError, LookupError, RecursionError):  # A damaged file is drawn again.
            stored = json.loads(run.read(_STORED))
            if stored["source"] == source:
                return list(stored["figures"])
    drawn = figures(report)
    run.write(_STORED, json.dumps({"source": source, "figures": drawn}).encode())
    return drawn


def figures(report: Report) -> list[canvas.Figure]:
    """Draw every figure that the report has numbers for.

    Args:
        report: The results of the run.

    Returns:
        The figures.
    """
    shown = dict(list(report.voters.items())[: canvas.MOST_VOTERS])
    drawn = [
        charts.by_size(report, shown),
        charts.by_cost(report, shown),
        charts.by_coverage(report, shown),
        charts.reliability(report, shown),
        charts.letter_shares(report, shown),
        charts.order_sensitivity(report),
        *charts.training(report),
    ]
    return [figure for figure in drawn if figure]
