"""The page of the ladder: docs/ladder.md, made of nothing but ladder.json.

python -m benchmarks.ladder_page benchmarks/results/ladder.json docs/ladder.md
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_HEAD = """# The ladder

Made of benchmarks/results/ladder.json by `python -m benchmarks.ladder_page`; benchmarks/ladder.py measured them.
Every rung answers the same {asked:,} held-out questions. The interval is at 95 %; p is the exact McNemar test against
the rung before; `in the mix` weighs the kinds as the test file has them; `without artefacts` leaves out the voters that
read a defect of the file. Tokens are those that went through a model, operations 2 x parameters x tokens.
"""


def page(result: dict[str, Any]) -> str:
    """Return the page."""
    rungs = result["rungs"]
    kinds = sorted({kind for rung in rungs for kind in rung["kinds"]})
    columns = ["rung", "accuracy", "p", "in the mix", "without artefacts", "tokens", "operations"]
    rows = [
        [
            rung["title"],
            _accuracy(rung),
            _p(rung["p"]),
            _accuracy(rung["mix"]),
            _accuracy(rung["without_artefacts"]),
            f"{rung['computed_tokens']:,}",
            "" if rung["operations"] is None else f"{rung['operations']:.2g}",
        ]
        for rung in rungs
    ]
    by_kind = [[rung["title"], *(_kind(rung["kinds"].get(kind)) for kind in kinds)] for rung in rungs]
    parts = [_HEAD.format(asked=max(rung["asked"] for rung in rungs)), _table(columns, rows)]
    if kinds:
        parts += ["## By kind\n", _table(["rung", *(kind.replace("_", " ") for kind in kinds)], by_kind)]
    commands = "\n".join(f"    {command}" for rung in rungs for command in rung["commands"])
    parts += ["## Commands\n", commands]
    return "\n".join(parts) + "\n"


def _accuracy(numbers: dict[str, Any] | None) -> str:
    if not numbers or numbers["accuracy"] is None:
        return ""
    interval = numbers.get("interval")
    return f"{numbers['accuracy']:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def _kind(numbers: dict[str, Any] | None) -> str:
    return "" if not numbers or numbers["accuracy"] is None else f"{numbers['accuracy']:.3f} of {numbers['asked']:,}"


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_text(page(json.loads(source.read_text(encoding="utf-8"))), encoding="utf-8")
