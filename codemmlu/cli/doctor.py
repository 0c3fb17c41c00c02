"""The command `doctor`: what this machine has, and which recipes fit it."""

from dataclasses import asdict
from pathlib import Path

import psutil

from codemmlu.cli.console import Terminal
from codemmlu.cli.dry_run import here
from codemmlu.cli.job import Outcome
from codemmlu.cli.machine import findings
from codemmlu.cli.same_name import warning
from codemmlu.engine.model_source import EMBEDDED, pinned
from codemmlu.engine.placement.gpus import Resources, multiplies_bfloat16
from codemmlu.engine.placement.memory import GIB
from codemmlu.engine.placement.model_facts import ModelFacts
from codemmlu.engine.placement.placement import place
from codemmlu.errors import UserError
from codemmlu.recipe import ModelSettings, load
from codemmlu.recipe.packaged import packaged

_MOST = 0.9  # the share of the memory that weights may take on a CPU


def doctor(terminal: Terminal, _: list[str]) -> Outcome:
    """Print what is here, what will go wrong with it, and which recipes fit."""
    found = list(findings())
    for finding in found:
        terminal.say(f"{finding.what:<18}{finding.text}")
        if finding.problem:
            terminal.say(f"{'':<18}PROBLEM: {finding.problem}")
    hardware = here()
    reasons = {name: too_much(str(path), hardware) for name, path in packaged().items()}
    fitting = [name for name, reason in reasons.items() if reason is None]
    terminal.say(f"{'recipes that fit':<18}{', '.join(fitting)}")
    for name, reason in reasons.items():
        if reason:
            terminal.say(f"{'':<18}not {name}: {reason}")
    terminal.say("What a run would do: codemmlu run NAME --dry-run, also for hardware that is not here: --gpus 2xT4")
    problems = [line for line in (*(finding.problem for finding in found), warning()) if line]
    report = {
        "machine": [asdict(finding) for finding in found],
        "problems": problems,
        "hardware": str(hardware),
        "recipes": {name: reason or "fits" for name, reason in reasons.items()},
    }
    return Outcome(report, 0)


def too_much(recipe: str, hardware: Resources) -> str | None:
    """Return why a recipe's models do not fit the hardware; None where they do. The Hub is not asked.

    Args:
        recipe: The recipe's path.
        hardware: The hardware.

    Returns:
        The reason in one line, or None.
    """
    models = load(recipe, []).models
    return next((reason for name, settings in models.items() if (reason := _too_large(name, settings, hardware))), None)


def _too_large(name: str, settings: ModelSettings, hardware: Resources) -> str | None:
    facts = pinned().get(settings.source)
    known = ModelFacts(facts["config"], facts["bytes"]) if facts else None
    if settings.source == EMBEDDED:
        return None
    try:
        place(name, settings, hardware, known)
    except UserError as error:
        return str(error)
    if hardware.gpus or known is None or known.weight_bytes is None:
        return None
    # Weights of 16 bits take twice as much where the processor computes in 32.
    slow = not multiplies_bfloat16(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    width = 2 if slow and "quantization_config" not in known.config else 1
    needed, there = known.weight_bytes * width / GIB, psutil.virtual_memory().total / GIB
    if needed < _MOST * there:
        return None
    return f"the weights take {needed:.0f} GiB, and there are {there:.0f} GiB of memory"
