"""The ladder: from the reference project's way of asking to everything that helps, on the same held-out questions.

    python -m benchmarks.ladder FOLDER --questions FILE [--mix FILE] [--model SOURCE] [--held-out 600] [--seed 0]
        [--rungs one,cyclic] [--page docs/ladder.md] [--json] [key.path=value ...]

Each rung is one or more commands, which are printed and run in one run directory, so that a rung asks only what no rung
before it asked. What is finished stays: the same command goes on where it was stopped, and a rung is run again only
where its commands have changed. FOLDER/ladder.json has all figures; `--page` writes the page that is made of it. It is
run from the root of the project, as its commands are.

A rung is compared with the one before it by the exact McNemar test on the same questions. Totals are also given in the
mix of kinds of --mix, and without the voters that read a defect of the file. Operations are 2 x parameters x tokens
that went through a model. Nothing may be tuned on the held-out questions.
"""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.ladder_page import page
from codemmlu.report.statistics import mcnemar

RECIPE = "recipes/ladder.yaml"
# The adapters of each voter that has some, of which several are mixed, and how they are asked.
_EVERY_ORDER = "readings: cyclic, calibrate: prior"
ADAPTERS = {
    "tuned": ("tuned", _EVERY_ORDER),
    "tuned-one": ("tuned", "readings: 1"),
    "agreeing-one": ("agreeing", "readings: 1"),
    "second": ("second", _EVERY_ORDER),
    "soup": ("tuned second", _EVERY_ORDER),
}

# Runs one command, and returns its exit code.
Start = Callable[[Sequence[str]], int]


@dataclass(frozen=True)
class Rung:
    """A step of the ladder.

    Attributes:
        name: Its name.
        title: What it adds, as a table shows it.
        voters: The voters of recipes/ladder.yaml, or of ADAPTERS, that vote.
        trains: The adapters that have to be trained, with the settings of their training.
    """

    name: str
    title: str
    voters: tuple[str, ...]
    trains: tuple[tuple[str, tuple[str, ...]], ...] = ()


_TUNED = (("tuned", ()),)
_AGREEING = (("agreeing", ("finetune.orders=2", "finetune.consistency=1.0")),)
_SECOND = (*_TUNED, ("second", ("finetune.seed=1",)))
_TOOLS = ("retrieve", "static", "execute")
RUNGS = (
    Rung("reference", "one reading in the reference project's words", ("reference",)),
    Rung("one", "one reading", ("one",)),
    Rung("prior", "the letter prior divided out", ("prior",)),
    Rung("cyclic", "every choice at every letter", ("cyclic",)),
    Rung("retrieve", "with the nearest examples", ("cyclic", "retrieve")),
    Rung("tools", "with compilers and programs that are run", ("cyclic", *_TOOLS)),
    Rung("states", "with the model's hidden states", ("cyclic", *_TOOLS, "probe")),
    Rung("artefacts", "with a choice that stands beside its gap", ("cyclic", *_TOOLS, "probe", "verbatim")),
    Rung("tuned-one", "trained, one reading, alone", ("tuned-one",), _TUNED),
    Rung("agreeing-one", "trained to agree in every order, one reading, alone", ("agreeing-one",), _AGREEING),
    Rung("tuned", "trained, every order, alone", ("tuned",), _TUNED),
    Rung("all", "trained, with everything", ("tuned", *_TOOLS, "probe", "verbatim"), _TUNED),
    Rung("seeds", "and another seed", ("tuned", "second", *_TOOLS, "probe", "verbatim"), _SECOND),
    Rung("soup", "the mean of both seeds, alone", ("soup",), _SECOND),
)


@dataclass(frozen=True)
class Plan:
    """What all rungs share.

    Attributes:
        folder: Where everything is kept.
        recipe: The recipe.
        overrides: Overrides of the recipe for every rung.
    """

    folder: Path
    recipe: str
    overrides: tuple[str, ...]

    @property
    def out(self) -> Path:
        """Return the run directory of all rungs."""
        return self.folder / "run"

    def _weights(self, names: Sequence[str]) -> str:
        """Return adapters of the run directory as a value of a recipe."""
        folders = [str(self.out / "adapters" / name) for name in names]
        return folders[0] if len(folders) == 1 else f"[{', '.join(folders)}]"

    def commands(self, rung: Rung) -> list[list[str]]:
        """Return the commands of a rung: its trainings, and the run."""
        shared = [self.recipe, *self.overrides, f"out={self.out}"]
        trainings = [
            # A recipe needs a voter; this one has no weights to wait for.
            ["python", "jobs/finetune.py", *shared, f"finetune.name={name}", *own, "voters=[one]"]
            for name, own in rung.trains
        ]
        adapters = [
            f"voters.{voter}={{model: model, adapter: {self._weights(names.split())}, {settings}}}"
            for voter in rung.voters
            for names, settings in [ADAPTERS.get(voter, ("", ""))]
            if names
        ]
        chosen = f"voters=[{','.join(rung.voters)}]"
        return [*trainings, ["python", "jobs/run.py", *shared, *adapters, "finetune=null", chosen]]


def start_process(command: Sequence[str]) -> int:
    """Run a command as a process, which writes to stderr."""
    return subprocess.run([sys.executable, *command[1:]], stdout=sys.stderr).returncode


def climb(plan: Plan, rungs: Sequence[Rung], start: Start) -> dict[str, Any]:
    """Run the rungs that are not finished, and return the figures of all; see ladder.json.

    Raises:
        SystemExit: A command failed; what is finished stays.
    """
    kept = plan.folder / "rungs"
    kept.mkdir(parents=True, exist_ok=True)
    finished: list[dict[str, Any]] = []
    before: dict[str, bool] | None = None
    for rung in rungs:
        file = kept / f"{rung.name}.json"
        commands = [shlex.join(command) for command in plan.commands(rung)]
        known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        if known.get("commands") != commands:
            _run(rung, plan.commands(rung), start)
            known = {"commands": commands, "right": right_of(plan.out), **figures(plan.out)}
            _write(file, known)
        else:
            _say(f"{rung.name}: stands")
        p = None if before is None else paired(before, known["right"])
        before = known["right"]
        shown = {name: value for name, value in known.items() if name != "right"}
        finished.append({"name": rung.name, "title": rung.title, "p": p, **shown})
        result = {"overrides": list(plan.overrides), "rungs": finished}
        _write(plan.folder / "ladder.json", result)
    return result


def _run(rung: Rung, commands: Sequence[Sequence[str]], start: Start) -> None:
    for command in commands:
        _say(f"{rung.name}: {shlex.join(command)}")
        code = start(command)
        if code:
            raise SystemExit(f"{rung.name}: exit code {code}; the same command goes on from here")


def right_of(out: Path) -> dict[str, bool]:
    """Return by task_id whether the vote of a finished run is right, for its labelled questions."""
    questions = [row for file in sorted(out.glob("questions/*.parquet")) for row in pq.read_table(file).to_pylist()]
    verdicts = pq.read_table(out / "verdicts.parquet").to_pylist()
    letters = {row["task_id"]: row["letter"] for row in verdicts}
    return {row["task_id"]: letters.get(row["task_id"]) == row["answer"] for row in questions if row["answer"]}


def figures(out: Path) -> dict[str, Any]:
    """Return the figures of a finished run."""
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    vote = report["vote"]
    without = (report.get("artefacts") or {}).get("vote_without")
    kinds = report.get("kinds") or {}
    return {
        "accuracy": vote["accuracy"],
        "interval": vote["interval"],
        "asked": vote["asked"],
        "mix": (report.get("mix") or {}).get("vote"),
        "without_artefacts": without and {name: without[name] for name in ("accuracy", "interval")},
        "kinds": {name: {key: kind["vote"][key] for key in ("accuracy", "asked")} for name, kind in kinds.items()},
        **_costs(report),
    }


def _costs(report: dict[str, Any]) -> dict[str, Any]:
    """Return tokens and operations of all specs of a run; operations are None where a model's size is unknown."""
    voters = report["voters"].values()
    models = {voter["ask"]: voter["model"] for voter in voters if voter.get("model") in report["models"]}
    costs = {ask: cost for ask, cost in report["asks"].items() if ask in models}
    sizes = {ask: report["models"][models[ask]].get("parameters") for ask in costs}
    operations = None
    if all(sizes.values()):
        operations = sum(2 * sizes[ask] * cost["computed_tokens"] for ask, cost in costs.items())
    totals = ("prompt_tokens", "computed_tokens", "generated_tokens", "readings")
    return {name: sum(cost[name] for cost in costs.values()) for name in totals} | {"operations": operations}


def paired(before: dict[str, bool], after: dict[str, bool]) -> float | None:
    """Return the exact McNemar p-value of two rungs on their common questions; None where they have none."""
    both = before.keys() & after.keys()
    if not both:
        return None
    only = [sum(one[name] and not other[name] for name in both) for one, other in ((before, after), (after, before))]
    return mcnemar(*only)


def _write(file: Path, value: Any) -> None:
    part = file.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    part.replace(file)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Climb, and print a table or one object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--questions", default="sample", help="a labelled source, which is split")
    parser.add_argument("--mix", help="a file of questions whose mix of kinds counts; otherwise that of --questions")
    parser.add_argument("--model", help="a source, as models.NAME.source in a recipe")
    parser.add_argument("--held-out", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0, help="of the questions that are held out")
    parser.add_argument("--rungs", help="names, in order; otherwise all")
    parser.add_argument("--page", type=Path, help="the page to write")
    parser.add_argument("--json", action="store_true", help="one object on one line, last on stdout")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    arguments = parser.parse_intermixed_args()
    overrides = [f"questions.source={arguments.questions}", f"examples.source={arguments.questions}"]
    overrides += [f"questions.holdout.n={arguments.held_out}", f"questions.holdout.seed={arguments.seed}"]
    overrides += [f"report.mix={arguments.mix or arguments.questions}"]
    overrides += [f"models.model.source={arguments.model}"] if arguments.model else []
    known = {rung.name: rung for rung in RUNGS}
    names = arguments.rungs.split(",") if arguments.rungs else list(known)
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"there is no rung {', '.join(unknown)}; rungs: {', '.join(known)}")
    plan = Plan(arguments.folder, RECIPE, (*overrides, *arguments.overrides))
    result = climb(plan, [known[name] for name in names], start_process)
    if arguments.page:
        arguments.page.write_text(page(result), encoding="utf-8")
    print(json.dumps(result) if arguments.json else page(result), flush=True)


if __name__ == "__main__":
    main()
