"""The canvas of every chart: colours, axes and labels, and the SVG text that stands in the page.

Text takes the colour of the page, and the SVG loads nothing. matplotlib draws; it is imported late, as it is slow to
import and only a report with new numbers needs it.
"""

import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from codemmlu.report.schema import Report, VoterReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The colours of Okabe and Ito, which colour-blind readers can tell apart, without those that vanish on white or black.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#9b8bd9", "#8c8c8c")
_MARKS = "osD^vPX*"
INK = "#0a0b0c"  # stands for the page's own colour until the SVG is written
MOST_VOTERS = len(COLOURS)  # a figure of more voters is not readable
_SIZE = (5.6, 3.5)  # inches


class Figure(TypedDict):
    """A figure of the page.

    Attributes:
        title: The title.
        note: An explanation for the user.
        svg: The drawing, as SVG text.
    """

    title: str
    note: str
    svg: str


class Style(TypedDict):
    """The look of a line or point, as matplotlib's functions take it."""

    color: str
    marker: str


def voter_style(report: Report, name: str) -> Style:
    """Return a voter's colour and mark, the same in every figure; other series have the text's colour."""
    if name not in report.voters:
        return {"color": INK, "marker": "."}
    index = list(report.voters).index(name) % MOST_VOTERS
    return {"color": COLOURS[index], "marker": _MARKS[index]}


def draw_point(axes: "Axes", x: float, voter: VoterReport, style: Style) -> None:
    """Draw the accuracy of a voter that has one, with its interval."""
    assert voter.accuracy is not None
    assert voter.interval is not None
    low, high = voter.interval
    spread = [[voter.accuracy - low], [high - voter.accuracy]]
    axes.errorbar(x, voter.accuracy, spread, ms=6, lw=1.4, **style)


def draw_accuracy_axis(axes: "Axes", report: Report) -> None:
    """Name the axis of accuracies, and mark the accuracy of guessing."""
    axes.set_ylabel("accuracy")
    if report.chance is not None:
        axes.axhline(report.chance, color="#8c8c8c", lw=0.8, ls=":")
        axes.annotate("guessing", (1, report.chance), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                      fontsize=7, color="#8c8c8c")  # fmt: skip


def draw_legend(axes: "Axes") -> None:
    """Draw the legend below the figure, as names inside it would cover lines and bars."""
    axes.figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=7, labelcolor=INK)


def draw_labels(axes: "Axes", labels: Sequence[tuple[str, float, float, str]]) -> None:
    """Draw names beside points, each at the first position where it covers no other name.

    Positions are to the right, left, above and below, then further away.

    Args:
        axes: The axes of the points.
        labels: The name, x, y and colour of each point.
    """
    offsets = [(dx, dy) for far in (0, 9, 18, 27, 36, 45) for dx in (7, -7) for dy in ((far, -far) if far else (0,))]
    from matplotlib.transforms import Bbox

    points = [axes.transData.transform((x, y)) for _, x, y, _ in labels]
    taken: list[Any] = [Bbox.from_extents(x - 3, y - 3, x + 3, y + 3) for x, y in points]
    for name, x, y, colour in labels:
        best = None
        for dx, dy in offsets:
            text = axes.annotate(
                name, (x, y), (dx, dy), textcoords="offset points", fontsize=7, color=colour, va="center",
                ha="left" if dx > 0 else "right",
            )  # fmt: skip
            box = text.get_window_extent()
            inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 + 20
            if inside and not any(box.overlaps(other) for other in taken):
                best = box
                break
            text.remove()
        if best is not None:
            taken.append(best)


def draw_figure(title: str, note: str, draw: Callable[["Axes"], None], size: tuple[float, float] = _SIZE) -> Figure:
    """Draw one figure as SVG text.

    Args:
        title: Of the figure.
        note: Explains the figure to the user.
        draw: Draws the chart on the axes.
        size: Width and height in inches.

    Returns:
        The figure.
    """
    import matplotlib

    settings: Any = {
        "svg.fonttype": "none",  # text stays text: a search finds it, a screen reader reads it, the page's font applies
        "svg.hashsalt": title,  # figures share one page: their ids must differ, and be the same every time
        "font.size": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    }
    with matplotlib.rc_context(settings):
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        for patch in (figure.patch, axes.patch):
            patch.set(facecolor="none", edgecolor="none")
        out = io.StringIO()
        # savefig would draw everything once more for the layout alone.
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(out, metadata={"Date": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1), count=1
    )
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
    return {"title": title, "note": note, "svg": svg}
