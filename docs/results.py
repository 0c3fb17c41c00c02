"""Write docs/results.md: what was measured, from docs/measurements.yaml and benchmarks/results/evidence.json.

python docs/results.py
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
PAGE = FOLDER / "results.md"
EVIDENCE = FOLDER.parent / "benchmarks" / "results" / "evidence.json"
HEAD = """# Results

Made by `python docs/results.py`; do not edit it by hand. Each table names the day, the commit since which its figures
are here, and runs like the one that made them. Intervals are 95 % (Wilson). A labelled question without an answer
counts as wrong.

The models here are small, because the machine was: two CPU cores. No recipe for a larger model has been answered by us
on GPUs yet; [hardware and recipes](hardware.md) has the figures that the reference project published for them.
"""
# Voters of benchmarks/evidence.py, and the kinds that each one speaks about.
TOOLS = {
    "static": ("defect", "completion", "fill_in_the_middle"),
    "execute": ("output", "completion"),
    "verbatim": ("fill_in_the_middle",),
    "choices-only": ("all",),
    "retrieve": ("all",),
    "pool without artefacts": ("all",),
    "pool": ("all",),
}


def page() -> str:
    """Return the text of the page."""
    measured = yaml.safe_load((FOLDER / "measurements.yaml").read_text(encoding="utf-8"))
    return "\n".join([HEAD, *(line for part in measured.values() for line in _part(part)), *_evidence()])


def _part(part: dict[str, Any]) -> Iterator[str]:
    guessing = f" Guessing: {part['guessing']:.3f}." if "guessing" in part else ""
    yield f"## {part['title']}\n\n{part['about']}{guessing}\n"
    yield from _table(part["columns"], [[_cell(value) for value in row] for row in part["rows"]])
    yield f"\nMeasured {part['date']}, here since commit {part['commit']}, by runs like `{part['command']}`.\n"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield "|" + "---|" * len(titles)
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return f"{value[0]:.3f} to {value[1]:.3f}"
    if isinstance(value, int):
        return f"{value:,}"
    return (
        f"{value:g}"
        if isinstance(value, float) and value >= 1
        else f"{value:.3f}"
        if isinstance(value, float)
        else value
    )


def _evidence() -> Iterator[str]:
    found = json.loads(EVIDENCE.read_text(encoding="utf-8"))
    yield f"""## Evidence without a model

CodeMMLU's labelled Kaggle file ({found["train"]["questions"]:,} questions) in {found["folds"]} folds: all that is
learnt comes from the other folds. `verbatim` reads a defect of the file and
`choices-only` the form of the choices, not the problem; `pool` has both. The rules of `execute`
were written with half of these questions in view.
"""
    rows = []
    for voter, kinds in TOOLS.items():
        for kind in kinds:
            part = found["by_kind"][voter][kind]
            rows.append(
                [
                    *(f"`{voter}`", kind.replace("_", " "), f"{part['questions']:,}", f"{part['decided']:,}"),
                    *(f"{part['precision']:.3f}", _cell(part["interval"])),
                ]
            )
    yield from _table(["voter", "kind", "questions", "decided", "right of these", "interval"], rows)
    mix = found["in_test_mix"]
    totals = [(name, mix[name]) for name in ("pool", "pool without artefacts")]
    for name, total in totals:
        yield f"\nIn the test file's mix of kinds, `{name}`: {total['accuracy']:.3f} ({_cell(total['interval'])})."
    yield "\nMeasured 2026-11-28, here since commit ac309c8, not by one run of the command: observations that the"
    yield "latest rules could not change were kept, and the answers of `retrieve` in four of the five folds were of an"
    yield "earlier run. `python -m benchmarks.evidence train.csv --test test.csv` measures everything anew."
    yield f"Tools: {_tools(found)}"


def _tools(found: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}".strip() for name, version in found["tools"].items()) + ".\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
