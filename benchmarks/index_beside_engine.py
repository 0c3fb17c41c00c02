"""What an open index costs an engine that does not look into it.

    python benchmarks/index_beside_engine.py --questions FILE --examples FILE [--limit 200] [--rounds 2] [--json]

One voter, `direct`, without examples, is asked the same questions by the same engine twice: alone, and in a pool whose
actor has the index and the embedder open as well, because a second voter (answered before, and so not asked) shows
examples. From the first question submitted to the last durable row; the order alternates.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from codemmlu.run_dir import RunDir

ROOT = Path(__file__).parents[1]


def run_job(recipe: Path, *overrides: str) -> None:
    """One issue of jobs/answer.py, its words on stderr."""
    command = [sys.executable, str(ROOT / "jobs/answer.py"), str(recipe), *overrides]
    subprocess.run(command, check=True, stdout=sys.stderr)


def rate(out: Path) -> float:
    """Questions a second of the voter without examples."""
    run = RunDir(str(out))
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    ask = report["voters"]["direct"]["ask"]
    starts, ends = [], []
    for name in run.files("answers/model"):
        rows = [row for row in run.read_table(name, ["ask", "started"]).to_pylist() if row["ask"] == ask]
        if rows:
            starts += [row["started"] for row in rows]
            ends.append(Path(run.path(name)).stat().st_mtime)
    seconds: float = max(ends) - min(starts)
    return len(starts) / seconds


def main() -> None:
    """Measures, and prints a table or one object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", default="sample", help="a source, as questions.source in a recipe")
    parser.add_argument("--examples", default="sample", help="a source, as examples.source in a recipe")
    parser.add_argument("--model", default="embedded", help="a source, as models.NAME.source in a recipe")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="one object on one line, last on stdout")
    arguments = parser.parse_args()
    rounds = []
    with tempfile.TemporaryDirectory() as scratch:
        recipe = Path(scratch, "recipe.yaml")
        written = {
            "out": f"{scratch}/prepared",
            "questions": {"source": arguments.questions, "limit": arguments.limit},
            "examples": {"source": arguments.examples, "index": f"{scratch}/index"},
            "models": {"model": {"source": arguments.model}},
            "voters": {"direct": {"model": "model"}, "shown": {"model": "model", "examples": 1}},
        }
        recipe.write_text(json.dumps(written))
        run_job(recipe, "voters=[shown]")
        for number in range(arguments.rounds):
            rates = {}
            for way in ("alone", "beside") if number % 2 == 0 else ("beside", "alone"):
                out = Path(scratch, f"{way}-{number}")
                if way == "beside":
                    answers = out / "answers"
                    answers.mkdir(parents=True)
                    shutil.copytree(Path(scratch, "prepared", "answers", "model"), answers / "model")
                run_job(recipe, f"out={out}", *(["voters=[direct]"] if way == "alone" else []))
                rates[way] = rate(out)
            rounds.append(rates)
    ratios = [one["beside"] / one["alone"] for one in rounds]
    result = {
        "questions": arguments.limit,
        "alone": statistics.median(one["alone"] for one in rounds),
        "beside": statistics.median(one["beside"] for one in rounds),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }
    if arguments.json:
        print(json.dumps(result), flush=True)
        return
    print(f"{arguments.limit} questions, no examples shown: {result['alone']:.2f} questions/s without an index,")
    print(f"{result['beside']:.2f} with one open beside the engine; ratio {result['ratio']:.3f} of {ratios}")


if __name__ == "__main__":
    main()
