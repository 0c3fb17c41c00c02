"""Draw the pictures of the README and of docs/, light and dark, from what was measured.

    python docs/pictures.py
    python docs/pictures.py RUN

The charts are of docs/measurements.yaml. The terminal is of docs/pictures/continue.json: the lines of a run of the
sample with a scripted engine that was killed (SIGKILL) and issued again, with the second at which each was printed.
report-light.png and report-dark.png are photographs of RUN/report.html, by headless Chromium.
"""

import html
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from PIL import Image

from codemmlu.report.canvas import COLOURS, INK, draw_figure, draw_labels, draw_legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOLDER = Path(__file__).parent / "pictures"
GREY = "#8c8c8c"


class Look(NamedTuple):
    """The colours of one scheme."""

    paper: str
    ink: str
    dim: str
    line: str
    soft: str


LOOKS = {
    "light": Look("#ffffff", "#1b1d21", "#5d6470", "#c9ced6", "#f3f5f8"),
    "dark": Look("#14161a", "#e6e8eb", "#9aa2ae", "#3f4650", "#1e2228"),
}


def measured() -> dict[str, Any]:
    """Return docs/measurements.yaml."""
    found: dict[str, Any] = yaml.safe_load((FOLDER.parent / "measurements.yaml").read_text(encoding="utf-8"))
    return found


def chart(title: str, draw: Callable[["Axes"], None], size: tuple[float, float] = (7.2, 3.8)) -> dict[str, str]:
    """Return a chart as SVG text, by scheme."""

    def spaced(axes: "Axes") -> None:
        layout: Any = axes.get_figure()
        layout.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
        draw(axes)

    svg = draw_figure(title, "", spaced, size)["svg"]
    svg = re.sub(r"font: [^;'\"]*?(\d+(?:\.\d+)?px)[^;'\"]*", r"font: \1 system-ui, sans-serif", svg)
    return {
        name: svg.replace("currentColor", look.ink).replace(
            ">", f'><rect width="100%" height="100%" fill="{look.paper}"/>', 1
        )
        for name, look in LOOKS.items()
    }


def _accuracies(axes: "Axes", guessing: float, side: str = "y") -> None:
    line = axes.axhline if side == "y" else axes.axvline
    line(guessing, color=GREY, lw=0.8, ls=":")
    place = {"y": ((1, guessing), ("axes fraction", "data")), "x": ((guessing, 1), ("data", "axes fraction"))}[side]
    axes.annotate("guessing", place[0], (-3, 3), xycoords=place[1], textcoords="offset points", ha="right", va="bottom",
                  fontsize=7, color=GREY)  # fmt: skip


def methods() -> dict[str, str]:
    """Draw accuracy against tokens, by method."""
    part = measured()["methods"]

    def draw(axes: "Axes") -> None:
        labels = []
        for number, (name, accuracy, (low, high), tokens, _) in enumerate(part["rows"]):
            spread = [[accuracy - low], [high - accuracy]]
            axes.errorbar(tokens / 300, accuracy, spread, fmt="o", ms=6, lw=1.2, color=COLOURS[number])
            labels.append((name.partition(":")[0].strip("`"), tokens / 300, accuracy, INK))
        axes.set_xlabel("tokens computed for each question")
        axes.set_ylabel("accuracy")
        axes.set_xlim(150, 480)
        axes.set_yticks([0.25, 0.3, 0.35, 0.4])
        _accuracies(axes, part["guessing"])
        draw_labels(axes, labels)

    return chart("Accuracy against tokens, by method", draw)


def order() -> dict[str, str]:
    """Draw the accuracy by the place of the right choice."""
    rows = measured()["order"]["rows"]

    def draw(axes: "Axes") -> None:
        for number, (name, *accuracies, deviation) in enumerate(rows):
            xs = [place + (number - 1) * 0.26 for place in range(4)]
            label = f"{name} (deviation {deviation:.3f})"
            axes.bar(xs, [max(value, 0.004) for value in accuracies], 0.24, color=COLOURS[number], label=label)
        axes.set_xticks(range(4), "ABCD")
        axes.set_xlabel("the letter at which the right choice stands")
        axes.set_ylabel("accuracy")
        draw_legend(axes)

    return chart("Order bias, before and after", draw)


def ladder() -> dict[str, str]:
    """Draw the way from one reading to a vote."""
    part = measured()["ladder"]

    def draw(axes: "Axes") -> None:
        rows = part["rows"][::-1]
        for place, (_, accuracy, (low, high), *_) in enumerate(rows):
            colour = COLOURS[2] if place == 0 else COLOURS[0]
            axes.barh(place, accuracy, 0.62, color=colour, alpha=0.85)
            axes.plot([low, high], [place, place], color=INK, lw=1.2)
            axes.annotate(f"{accuracy:.3f}", (high, place), (5, 0), textcoords="offset points", va="center",
                          fontsize=8, color=INK)  # fmt: skip
        axes.set_yticks(range(len(rows)), [row[0].strip("*") for row in rows])
        axes.set_xlim(0, 0.7)
        axes.set_xlabel("accuracy, with its 95 % interval")
        _accuracies(axes, part["guessing"], "x")

    return chart("From one reading to a vote", draw, (7.2, 2.9))


# The pipeline: the name, what it does, and the row and column of each box.
BOXES = (
    ("questions", "CSV, JSON, Hub", 0, 0),
    ("dataset", "read, clean, split", 0, 1),
    ("prompts", "orders of choices", 0, 2),
    ("engines", "vLLM on Ray actors", 0, 3),
    ("answers", "durable, by key", 0, 4),
    ("vote", "weights, tests", 0, 5),
    ("report", "HTML, JSON, CSV", 0, 6),
    ("solved examples", "the same readers", 1, 1),
    ("retrieval", "one index a node", 1, 2),
    ("training", "LoRA on Ray Train", 1, 3),
    ("tools", "run in a sandbox", 1, 4),
)
ARROWS = ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (7, 8), (8, 2), (9, 3), (10, 4))
WIDE, HIGH, GAP = 132, 58, 20


def pipeline() -> dict[str, str]:
    """Draw the way of a question."""
    return {name: _pipeline(look) for name, look in LOOKS.items()}


def _corner(row: int, column: int) -> tuple[int, int]:
    return 14 + column * (WIDE + GAP), 14 + row * (HIGH + 44)


def _pipeline(look: Look) -> str:
    width, height = 28 + 7 * WIDE + 6 * GAP, 28 + 2 * HIGH + 44
    parts = [
        f'<rect width="{width}" height="{height}" fill="{look.paper}"/>',
        '<defs><marker id="tip" markerWidth="7" markerHeight="7" refX="6" refY="3.5" orient="auto">'
        f'<path d="M0 0L7 3.5L0 7z" fill="{look.dim}"/></marker></defs>',
    ]
    for first, second in ARROWS:
        (x1, y1), (x2, y2) = _corner(*BOXES[first][2:]), _corner(*BOXES[second][2:])
        across, up = f"M{x1 + WIDE} {y1 + HIGH / 2}H{x2 - 2}", f"M{x1 + WIDE / 2} {y1}V{y2 + HIGH + 2}"
        line = across if y1 == y2 else up
        parts.append(f'<path d="{line}" fill="none" stroke="{look.dim}" stroke-width="1.4" marker-end="url(#tip)"/>')
    for name, about, row, column in BOXES:
        x, y = _corner(row, column)
        stroke = COLOURS[0] if row == 0 else look.line
        parts.append(
            f'<rect x="{x}" y="{y}" width="{WIDE}" height="{HIGH}" rx="7" fill="{look.soft}" stroke="{stroke}"/>'
            f'<text x="{x + WIDE / 2}" y="{y + 25}" font-size="13.5" font-weight="600" fill="{look.ink}">{name}</text>'
            f'<text x="{x + WIDE / 2}" y="{y + 43}" font-size="11" fill="{look.dim}">{about}</text>'
        )
    return _svg(width, height, "The way of a question", "".join(parts), 'text-anchor="middle"')


def _svg(width: int, height: int, title: str, body: str, more: str = "") -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{title}" '
        f'font-family="system-ui, sans-serif" {more}><title>{title}</title>{body}</svg>\n'
    )


def terminal() -> dict[str, str]:
    """Draw the terminal of a run that is killed and issued again; lines appear as they did, twenty times as fast."""
    lines: list[tuple[float, str]] = json.loads((FOLDER / "continue.json").read_text(encoding="utf-8"))
    return {name: _terminal(lines, look) for name, look in LOOKS.items()}


def _terminal(lines: list[tuple[float, str]], look: Look) -> str:
    width, height, rows = 900, 34 + 19 * len(lines), []
    for number, (second, text) in enumerate(lines):
        colour = look.ink if text.startswith("$") else COLOURS[3] if text.startswith("Killed") else look.dim
        weight = 600 if text.startswith(("$", "Killed")) else 400
        rows.append(
            f'<text x="16" y="{32 + 19 * number}" fill="{colour}" font-weight="{weight}" xml:space="preserve" '
            f'class="line" style="animation-delay:{second / 20:.2f}s">{html.escape(text[:118])}</text>'
        )
    style = (
        "@media (prefers-reduced-motion: no-preference)"
        "{.line{animation:show .01s both}@keyframes show{from{opacity:0}to{opacity:1}}}"
    )
    body = (
        f'<style>{style}</style><rect width="{width}" height="{height}" rx="8" fill="{look.soft}" '
        f'stroke="{look.line}"/><g font-family="ui-monospace, monospace" font-size="12.5">{"".join(rows)}</g>'
    )
    return _svg(width, height, "A run is killed and goes on", body)


PICTURES: dict[str, Callable[[], dict[str, str]]] = {
    "methods": methods,
    "order": order,
    "ladder": ladder,
    "pipeline": pipeline,
    "continue": terminal,
}


def photograph(run: str) -> None:
    """Write pictures of the top of a run's report, as a browser shows it."""
    url = Path(run, "report.html").resolve().as_uri()
    for scheme, number in (("light", 1), ("dark", 0)):
        with tempfile.TemporaryDirectory() as profile:
            picture = FOLDER / f"report-{scheme}.png"
            options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}")
            look = ("--window-size=1200,660", f"--blink-settings=preferredColorScheme={number}")
            command = ["chromium", *options, *look, f"--screenshot={picture}", url]
            subprocess.run(command, check=True, capture_output=True, timeout=300)
        # 64 colours are enough for a page of text and bars, and take a third of the room.
        Image.open(picture).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(picture, optimize=True)
        print(picture, picture.stat().st_size)


def main() -> None:
    """Write every picture, or those of the report of a run."""
    if len(sys.argv) > 1:
        photograph(sys.argv[1])
        return
    for name, draw in PICTURES.items():
        for scheme, svg in draw().items():
            (FOLDER / f"{name}-{scheme}.svg").write_text(svg, encoding="utf-8")
            print(FOLDER / f"{name}-{scheme}.svg", len(svg))


if __name__ == "__main__":
    main()
