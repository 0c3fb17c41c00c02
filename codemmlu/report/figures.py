"""The report's figures, as SVG that stands in the page: text in the page's own colour, nothing loaded.

matplotlib draws them; it is imported late, as it is slow to import and only a report with new numbers needs it.
"""

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codemmlu.errors import safe
from codemmlu.recipe import digest
from codemmlu.run_dir import RunDir

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The reference project's table: billions of parameters, accuracy on Kaggle's 1,253 test questions.
REFERENCE = (
    ("Qwen2.5 0.5B", 0.5, 0.38),
    ("0.5B finetuned", 0.5, 0.48),
    ("Qwen2.5 7B", 7.0, 0.59),
    ("14B", 14.0, 0.64),
    ("32B AWQ", 32.0, 0.72),
    ("Coder 32B", 32.0, 0.68),
    ("Mistral 7B", 7.0, 0.49),
    ("Mistral 3.1 24B", 24.0, 0.64),
    ("Mixtral 8x7B", 46.7, 0.56),
    ("R1-Distill 7B", 7.0, 0.51),
)
_ON_QUESTIONS = 1253
# Okabe and Ito's colours, without those that vanish on white or on black: told apart by colour-blind people too.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#9b8bd9", "#8c8c8c")
_MARKS = "osD^vPX*"
_INK = "#0a0b0c"  # stands for the page's own colour until the SVG is written
_MOST = len(_COLOURS)  # more voters than that are no figure
_SIZE = (5.6, 3.5)  # inches
_STORED = ".figures.json"


def stored_figures(run: RunDir, report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return a report's figures, and draw them only where the run directory has none of the same report.

    Importing matplotlib and drawing are half of the CPU seconds of a run that has nothing left to ask.
    """
    source = digest(report, Path(__file__).read_text(encoding="utf-8"), metadata.version("matplotlib"))
    if run.exists(_STORED):
        stored = json.loads(run.read(_STORED))
        if stored["source"] == source:
            return list(stored["figures"])
    drawn = figures(report)
    run.write(_STORED, json.dumps({"source": source, "figures": drawn}).encode())
    return drawn


def figures(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every figure that the report has numbers for: its title, what to know of it, and its SVG."""
    shown = dict(list(report["voters"].items())[:_MOST])
    told = [
        _by_size(report, shown),
        _by_cost(report, shown),
        _by_coverage(report, shown),
        _reliability(report, shown),
        _letters(report, shown),
        _order(report),
        *_training(report),
    ]
    return [one for one in told if one]


def _by_size(report: Mapping[str, Any], shown: Mapping[str, Any]) -> dict[str, str] | None:
    sizes = {name: one.get("parameters") for name, one in report["models"].items()}
    points = [
        (name, sizes[voter["model"]] / 1e9, voter)
        for name, voter in shown.items()
        if sizes.get(voter["model"]) and voter["accuracy"] is not None
    ]
    if not points:
        return None

    def draw(axes: "Axes") -> None:
        labels = []
        for name, size, accuracy in REFERENCE:
            half = 1.96 * (accuracy * (1 - accuracy) / _ON_QUESTIONS) ** 0.5
            axes.errorbar(size, accuracy, half, fmt="o", mfc="none", color="#8c8c8c", ms=4, lw=0.8)
            labels.append((name, size, accuracy, "#8c8c8c"))
        for name, size, voter in points:
            _point(axes, size, voter, _style(report, name))
            labels.append((safe(name, 24), size, voter["accuracy"], _INK))
        axes.set_xscale("log")
        axes.set_xlabel("billions of parameters")
        axes.margins(x=0.25, y=0.12)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(lambda value, _: "")
        _accuracy_axis(axes, report)
        _label(axes, labels)

    note = (
        "Hollow: the reference project's published accuracies, measured on Kaggle's 1,253 test questions: other "
        "questions than this run's. Bars: 95 % intervals."
    )
    return _figure("Accuracy against model size", note, draw, (5.6, 4.4))


def _by_cost(report: Mapping[str, Any], shown: Mapping[str, Any]) -> dict[str, str] | None:
    points = [(name, v) for name, v in shown.items() if v["accuracy"] is not None and v["computed_tokens"]]
    if len(points) < 2:
        return None
    xs = sorted(voter["computed_tokens"] for _, voter in points)

    def draw(axes: "Axes") -> None:
        labels = []
        for name, voter in points:
            tokens = voter["computed_tokens"] / report["questions"]
            _point(axes, tokens, voter, _style(report, name))
            labels.append((safe(name, 24), tokens, voter["accuracy"], _INK))
        axes.set_xscale("log")
        axes.margins(x=0.25, y=0.15)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        # Within one decade there may be no other label than those between.
        digits = "25" if xs[-1] > 10 * xs[0] else "1234568"
        axes.xaxis.set_minor_formatter(lambda value, _: f"{value:,.0f}" if f"{value:.0f}"[0] in digits else "")
        axes.set_xlabel("tokens computed for each question")
        _accuracy_axis(axes, report)
        _label(axes, labels)

    return _figure("Accuracy against cost", "Tokens from the prefix cache are not counted. Bars: 95 % intervals.", draw)


def _by_coverage(report: Mapping[str, Any], shown: Mapping[str, Any]) -> dict[str, str] | None:
    curves = {name: voter["coverage"] for name, voter in shown.items() if voter["coverage"]}
    if len(report["voters"]) > 1 and report["vote"]["coverage"]:
        curves = {**dict(list(curves.items())[: _MOST - 1]), "vote": report["vote"]["coverage"]}
    if not curves:
        return None

    def draw(axes: "Axes") -> None:
        for name, curve in curves.items():
            xs, ys = [point["coverage"] for point in curve], [point["accuracy"] for point in curve]
            axes.plot(xs, ys, ms=4, lw=1.4, label=safe(name, 24), **_style(report, name))
        axes.set_xlabel("share of the questions, the surest first")
        axes.set_xlim(0, 1.02)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        _accuracy_axis(axes, report)
        _legend(axes)

    return _figure("Accuracy at coverage", "How accurate answers are if only the surest are given.", draw)


def _reliability(report: Mapping[str, Any], shown: Mapping[str, Any]) -> dict[str, str] | None:
    told = {name: voter["calibration"]["as_said"] for name, voter in shown.items()}
    if len(report["voters"]) > 1:
        told = {**dict(list(told.items())[: _MOST - 1]), "vote": report["vote"]["calibration"]}
    told = {name: one for name, one in told.items() if one}
    if not told:
        return None

    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color="#8c8c8c", lw=0.8, ls="--")
        for name, one in told.items():
            xs, ys = [b["said"] for b in one["bins"]], [b["right"] for b in one["bins"]]
            axes.plot(xs, ys, ms=4, lw=1.4, label=f"{safe(name, 24)} ({one['error']:.2f})", **_style(report, name))
        axes.set_xlabel("probability of the answer, as said")
        axes.set_ylabel("share that is right")
        axes.set_xlim(0, 1.02)
        axes.set_ylim(-0.02, 1.02)
        _legend(axes)

    note = "On the dashed line a voter is as often right as it says. In brackets: the expected calibration error."
    return _figure("Reliability", note, draw)


def _letters(report: Mapping[str, Any], shown: Mapping[str, Any]) -> dict[str, str] | None:
    said = [(name, voter["letters_said"]) for name, voter in shown.items() if voter["letters_said"]]
    if report["letters_right"]:
        said = [("right", report["letters_right"]), *said]
    names = sorted({letter for _, counts in said for letter in counts})[:10]
    if not names:
        return None

    def draw(axes: "Axes") -> None:
        width = 0.8 / len(said)
        for place, (name, counts) in enumerate(said):
            total = sum(counts.values())
            xs = [n + (place - (len(said) - 1) / 2) * width for n in range(len(names))]
            colour = _style(report, name)["color"]
            axes.bar(xs, [counts.get(n, 0) / total for n in names], width * 0.92, color=colour, label=safe(name, 24))
        axes.set_xticks(range(len(names)), names)
        axes.set_ylabel("share of the answers")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        _legend(axes)

    note = "A voter whose bars are unlike those of the right letters likes letters, not choices."
    return _figure("Letters said and right", note, draw)


def _order(report: Mapping[str, Any]) -> dict[str, str] | None:
    measured = {name: one for name, one in (report["order_sensitivity"] or {}).items() if one["std"] is not None}
    if not measured:
        return None

    def draw(axes: "Axes") -> None:
        for name, one in list(measured.items())[:_MOST]:
            known = [(letter, value) for letter, value in one["accuracy"].items() if value is not None]
            label = f"{safe(name, 24)} ({one['std']:.3f})"
            axes.plot(*zip(*known, strict=True), lw=1.4, label=label, **_style(report, name))
        axes.set_xlabel("where the right choice stands")
        _accuracy_axis(axes, report)
        _legend(axes)

    note = "Accuracy with the right choice moved to each letter; a flat line does not care. In brackets: the deviation."
    return _figure("Order sensitivity", note, draw)


def _training(report: Mapping[str, Any]) -> list[dict[str, str] | None]:
    """Loss and accuracy as the weights were trained."""
    training = report["training"]
    if training is None:
        return []
    tune = training["tune"]
    known = [point for point in tune if point["accuracy"] is not None]

    def loss(axes: "Axes") -> None:
        steps, losses = zip(*((point["step"], point["loss"]) for point in training["train"]), strict=True)
        axes.plot(steps, losses, lw=0.6, color="#8c8c8c", label="each step")
        axes.plot(*_curve(tune, "loss"), lw=1.6, marker="o", ms=4, color=_COLOURS[0], label="the tune part")
        axes.axvline(training["best_step"], color=_INK, lw=0.8, ls=":", label="kept")
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        _legend(axes)

    def accuracy(axes: "Axes") -> None:
        axes.plot(*_curve(known, "accuracy"), lw=1.6, marker="o", ms=4, color=_COLOURS[0], label="the tune part")
        axes.axvline(training["best_step"], color=_INK, lw=0.8, ls=":", label="kept")
        axes.set_xlabel("step")
        _accuracy_axis(axes, report)
        _legend(axes)

    note = (
        f"{safe(training['name'], 40)}: {training['train_examples']:,} examples, {training['steps']:,} steps with "
        f"{training['backend']} on {safe(training['device'], 40)}. The tune part is neither learnt from nor asked."
    )
    right = _figure("Accuracy while training, one reading", note, accuracy) if known else None
    return [_figure("Loss while training", note, loss), right]


def _curve(points: Sequence[Mapping[str, Any]], of: str) -> tuple[list[int], list[float]]:
    return [point["step"] for point in points], [point[of] for point in points]


def _style(report: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A voter's colour and mark: the same in every figure. The vote and what is right stand in the text's colour."""
    if name not in report["voters"]:
        return {"color": _INK, "marker": "."}
    place = list(report["voters"]).index(name) % _MOST
    return {"color": _COLOURS[place], "marker": _MARKS[place]}


def _point(axes: "Axes", x: float, voter: Mapping[str, Any], style: Mapping[str, Any]) -> None:
    low, high = voter["interval"]
    spread = [[voter["accuracy"] - low], [high - voter["accuracy"]]]
    axes.errorbar(x, voter["accuracy"], spread, ms=6, lw=1.4, **style)


def _accuracy_axis(axes: "Axes", report: Mapping[str, Any]) -> None:
    axes.set_ylabel("accuracy")
    if report["chance"] is not None:
        axes.axhline(report["chance"], color="#8c8c8c", lw=0.8, ls=":")
        axes.annotate("guessing", (1, report["chance"]), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                      fontsize=7, color="#8c8c8c")  # fmt: skip


def _legend(axes: "Axes") -> None:
    # Below the figure: inside it names would stand on lines and bars.
    axes.figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=7, labelcolor=_INK)


def _label(axes: "Axes", labels: Sequence[tuple[str, float, float, str]]) -> None:
    """Names beside points, each at the first place where it covers no other name: to the right, left, above, below,
    then further away."""
    places = [(dx, dy) for far in (0, 9, 18, 27, 36, 45) for dx in (7, -7) for dy in ((far, -far) if far else (0,))]
    from matplotlib.transforms import Bbox

    points = [axes.transData.transform((x, y)) for _, x, y, _ in labels]
    taken: list[Any] = [Bbox.from_extents(x - 3, y - 3, x + 3, y + 3) for x, y in points]
    for name, x, y, colour in labels:
        best = None
        for dx, dy in places:
            said = axes.annotate(
                name, (x, y), (dx, dy), textcoords="offset points", fontsize=7, color=colour, va="center",
                ha="left" if dx > 0 else "right",
            )  # fmt: skip
            box = said.get_window_extent()
            inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 + 20
            if inside and not any(box.overlaps(other) for other in taken):
                best = box
                break
            said.remove()
        if best is not None:
            taken.append(best)


def _figure(title: str, note: str, draw: Callable[["Axes"], None], size: tuple[float, float] = _SIZE) -> dict[str, str]:
    import matplotlib

    settings: Any = {
        "svg.fonttype": "none",  # text stays text: it is found, read aloud and takes the page's font
        "svg.hashsalt": title,  # several figures stand in one page: their ids differ, and are the same every time
        "font.size": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
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
        # Not savefig, which draws everything once more for the layout alone.
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(out, metadata={"Date": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1), count=1
    )
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
    return {"title": title, "note": note, "svg": svg}
