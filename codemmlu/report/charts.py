"""The charts of the report, one function each: None where the report has no numbers for the chart.

`shown` holds the voters with a colour of their own; see `canvas.MOST_VOTERS`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from codemmlu.errors import safe
from codemmlu.report.canvas import (
    COLOURS,
    INK,
    MOST_VOTERS,
    Figure,
    draw_accuracy_axis,
    draw_figure,
    draw_labels,
    draw_legend,
    draw_point,
    voter_style,
)
from codemmlu.report.schema import Report, VoterReport

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
Voters = Mapping[str, VoterReport]


def by_size(report: Report, shown: Voters) -> Figure | None:
    """Draw accuracy against model size, beside the accuracies of the reference project."""
    sizes = {name: model.parameters / 1e9 for name, model in report.models.items() if model.parameters}
    points = [
        (name, sizes[voter.model], voter, accuracy)
        for name, voter in shown.items()
        if voter.model in sizes and (accuracy := voter.accuracy) is not None
    ]
    if not points:
        return None

    def draw(axes: "Axes") -> None:
        labels = []
        for name, size, accuracy in REFERENCE:
            half = 1.96 * (accuracy * (1 - accuracy) / _ON_QUESTIONS) ** 0.5
            axes.errorbar(size, accuracy, half, fmt="o", mfc="none", color="#8c8c8c", ms=4, lw=0.8)
            labels.append((name, size, accuracy, "#8c8c8c"))
        for name, size, voter, accuracy in points:
            draw_point(axes, size, voter, voter_style(report, name))
            labels.append((safe(name, 24), size, accuracy, INK))
        axes.set_xscale("log")
        axes.set_xlabel("billions of parameters")
        axes.margins(x=0.25, y=0.12)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(lambda value, _: "")
        draw_accuracy_axis(axes, report)
        draw_labels(axes, labels)

    note = (
        "Hollow: the reference project's published accuracies, measured on Kaggle's 1,253 test questions: other "
        "questions than this run's. Bars: 95 % intervals."
    )
    return draw_figure("Accuracy against model size", note, draw, (5.6, 4.4))


def by_cost(report: Report, shown: Voters) -> Figure | None:
    """Draw accuracy against the tokens computed for each question."""
    points = [
        (name, voter, accuracy)
        for name, voter in shown.items()
        if voter.computed_tokens and (accuracy := voter.accuracy) is not None
    ]
    if len(points) < 2:
        return None
    xs = sorted(voter.computed_tokens for _, voter, _ in points)

    def draw(axes: "Axes") -> None:
        labels = []
        for name, voter, accuracy in points:
            tokens = voter.computed_tokens / report.questions
            draw_point(axes, tokens, voter, voter_style(report, name))
            labels.append((safe(name, 24), tokens, accuracy, INK))
        axes.set_xscale("log")
        axes.margins(x=0.25, y=0.15)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        # Within one decade the minor ticks may be the only labels.
        digits = "25" if xs[-1] > 10 * xs[0] else "1234568"
        axes.xaxis.set_minor_formatter(lambda value, _: f"{value:,.0f}" if f"{value:.0f}"[0] in digits else "")
        axes.set_xlabel("tokens computed for each question")
        draw_accuracy_axis(axes, report)
        draw_labels(axes, labels)

    return draw_figure(
        "Accuracy against cost", "Tokens from the prefix cache are not counted. Bars: 95 % intervals.", draw
    )


def by_coverage(report: Report, shown: Voters) -> Figure | None:
    """Draw accuracy on the most confident share of the questions."""
    curves = {name: voter.coverage for name, voter in shown.items() if voter.coverage}
    if len(report.voters) > 1 and report.vote.coverage:
        curves = {**dict(list(curves.items())[: MOST_VOTERS - 1]), "vote": report.vote.coverage}
    if not curves:
        return None

    def draw(axes: "Axes") -> None:
        for name, curve in curves.items():
            xs, ys = [point.coverage for point in curve], [point.accuracy for point in curve]
            axes.plot(xs, ys, ms=4, lw=1.4, label=safe(name, 24), **voter_style(report, name))
        axes.set_xlabel("share of the questions, the most confident first")
        axes.set_xlim(0, 1.02)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        draw_accuracy_axis(axes, report)
        draw_legend(axes)

    return draw_figure("Accuracy at coverage", "How accurate answers are if only the most confident are given.", draw)


def reliability(report: Report, shown: Voters) -> Figure | None:
    """Draw how often answers are right against the probability that voters give them."""
    measured = {name: voter.calibration.as_said for name, voter in shown.items()}
    if len(report.voters) > 1:
        measured = {**dict(list(measured.items())[: MOST_VOTERS - 1]), "vote": report.vote.calibration}
    curves = {name: curve for name, curve in measured.items() if curve}
    if not curves:
        return None

    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color="#8c8c8c", lw=0.8, ls="--")
        for name, curve in curves.items():
            xs, ys = [b.said for b in curve.bins], [b.right for b in curve.bins]
            axes.plot(xs, ys, ms=4, lw=1.4, label=f"{safe(name, 24)} ({curve.error:.2f})", **voter_style(report, name))
        axes.set_xlabel("predicted probability of the answer")
        axes.set_ylabel("share that is right")
        axes.set_xlim(0, 1.02)
        axes.set_ylim(-0.02, 1.02)
        draw_legend(axes)

    note = "On the dashed line a voter is right as often as it predicts. In brackets: the expected calibration error."
    return draw_figure("Reliability", note, draw)


def letter_shares(report: Report, shown: Voters) -> Figure | None:
    """Draw how often each letter is predicted, beside how often it is right."""
    series = [(name, voter.letters_said) for name, voter in shown.items() if voter.letters_said]
    if report.letters_right:
        series = [("right", report.letters_right), *series]
    names = sorted({letter for _, counts in series for letter in counts})[:10]
    if not names:
        return None

    def draw(axes: "Axes") -> None:
        width = 0.8 / len(series)
        for number, (name, counts) in enumerate(series):
            total = sum(counts.values())
            xs = [n + (number - (len(series) - 1) / 2) * width for n in range(len(names))]
            colour = voter_style(report, name)["color"]
            axes.bar(xs, [counts.get(n, 0) / total for n in names], width * 0.92, color=colour, label=safe(name, 24))
        axes.set_xticks(range(len(names)), names)
        axes.set_ylabel("share of the answers")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        draw_legend(axes)

    note = "A voter whose bars are unlike those of the right letters likes letters, not choices."
    return draw_figure("Predicted and right letters", note, draw)


def order_sensitivity(report: Report) -> Figure | None:
    """Draw accuracy by the position of the right choice."""
    measured = {name: row for name, row in (report.order_sensitivity or {}).items() if row.std is not None}
    if not measured:
        return None

    def draw(axes: "Axes") -> None:
        for name, row in list(measured.items())[:MOST_VOTERS]:
            known = [(letter, value) for letter, value in row.accuracy.items() if value is not None]
            label = f"{safe(name, 24)} ({row.std:.3f})"
            axes.plot(*zip(*known, strict=True), lw=1.4, label=label, **voter_style(report, name))
        axes.set_xlabel("where the right choice stands")
        draw_accuracy_axis(axes, report)
        draw_legend(axes)

    note = "Accuracy with the right choice moved to each letter; a flat line does not care. In brackets: the deviation."
    return draw_figure("Order sensitivity", note, draw)


def training(report: Report) -> list[Figure | None]:
    """Draw loss and accuracy over the steps of training; empty without a training."""
    adapter = report.training
    if adapter is None:
        return []
    curve = [(point.step, point.loss) for point in adapter.tune]
    accuracies = [(point.step, point.accuracy) for point in adapter.tune if point.accuracy is not None]

    def loss(axes: "Axes") -> None:
        steps, losses = zip(*((point.step, point.loss) for point in adapter.train), strict=True)
        axes.plot(steps, losses, lw=0.6, color="#8c8c8c", label="each step")
        axes.plot(*zip(*curve, strict=True), lw=1.6, marker="o", ms=4, color=COLOURS[0], label="the tune part")
        axes.axvline(adapter.best_step, color=INK, lw=0.8, ls=":", label="kept")
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        draw_legend(axes)

    def accuracy(axes: "Axes") -> None:
        axes.plot(*zip(*accuracies, strict=True), lw=1.6, marker="o", ms=4, color=COLOURS[0], label="the tune part")
        axes.axvline(adapter.best_step, color=INK, lw=0.8, ls=":", label="kept")
        axes.set_xlabel("step")
        draw_accuracy_axis(axes, report)
        draw_legend(axes)

    note = (
        f"{safe(adapter.name, 40)}: {adapter.train_examples:,} examples, {adapter.steps:,} steps with "
        f"{adapter.backend} on {safe(adapter.device, 40)}. The tune part is neither learnt from nor asked."
    )
    right = draw_figure("Accuracy while training, one reading", note, accuracy) if accuracies else None
    return [draw_figure("Loss while training", note, loss), right]
