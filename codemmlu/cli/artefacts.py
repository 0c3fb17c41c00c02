"""Totals without artefact voters, which read a defect of the benchmark and not the problem."""

from dataclasses import replace
from typing import Any

import numpy as np

from codemmlu.cli.job import JobContext
from codemmlu.evidence import PROBES
from codemmlu.inference.voters import Ensemble
from codemmlu.recipe import EvidenceVoter, Recipe
from codemmlu.report import statistics
from codemmlu.report.score_table import ScoreTable
from codemmlu.run_dir import RunDir
from codemmlu.voting import reduction
from codemmlu.voting.fit_split import learn


def artefact_voters(recipe: Recipe) -> list[str]:
    """Return the names of a recipe's artefact voters."""
    voters = recipe.asked.items()
    return [name for name, voter in voters if isinstance(voter, EvidenceVoter) and PROBES[voter.method].artefact]


def letters_without(
    job: JobContext,
    run: RunDir,
    ensemble: Ensemble,
    reduced: reduction.ReduceResult,
    partitions: reduction.Partitions,
) -> Any:
    """Return the verdicts of all other voters, with a fit of their own.

    Returns:
        The indices of the chosen letters in the order of positions, -1 for none; None where no voter is an artefact
        voter, or all are.
    """
    names = artefact_voters(job.recipe)
    rest = {name: voter for name, voter in ensemble.voters.items() if name not in names}
    if job.recipe.report.artefacts == "only_with" or not names or not (rest or ensemble.submissions):
        return None
    settings = {name: voter for name, voter in job.recipe.voters.items() if name not in names}
    order = tuple(name for name in job.recipe.vote.order or () if name not in names)
    vote = job.recipe.vote.model_copy(update={"order": order or None})
    recipe = job.recipe.model_copy(update={"voters": settings, "vote": vote})
    learnt = learn(recipe, run, replace(ensemble, voters=rest), reduced, job.terminal)
    return reduction.letters_without(run, recipe.vote.rule, learnt.fitted, partitions, frozenset(names))


def totals(recipe: Recipe, scores: ScoreTable, letters: Any) -> dict[str, Any] | None:
    """Return the section `artefacts` of the report; None where no voter is an artefact voter.

    Args:
        recipe: The recipe.
        scores: The score table.
        letters: The result of `letters_without`.
    """
    names = artefact_voters(recipe)
    if not names:
        return None
    if letters is None:
        return {"voters": names, "vote_without": None}
    counted = scores.labelled
    right, asked = int((counted & (np.asarray(letters) == scores.right)).sum()), int(counted.sum())
    return {
        "voters": names,
        "vote_without": {
            "accuracy": right / asked if asked else None,
            "interval": statistics.wilson(right, asked),
            "answered": int((np.asarray(letters) >= 0).sum()),
        },
    }


def artefact_line(section: dict[str, Any] | None) -> list[str]:
    """Return a line on the total without artefact voters."""
    if section is None:
        return []
    names, without = ", ".join(section["voters"]), section["vote_without"]
    if without is None:
        return [f"Artefact voters, which read a defect of the file: {names}. No total without them exists."]
    if without["accuracy"] is None:
        return [f"Artefact voters, which read a defect of the file and not the problem: {names}."]
    low, high = without["interval"]
    share = f"{without['accuracy']:.1%} right (95 % interval {low:.1%} to {high:.1%})"
    return [f"Without the artefact voters ({names}), which read a defect of the file: {share}."]


def saved_lines(saved: dict[str, Any]) -> list[str]:
    """Return a line for each voter that a cascade spares questions."""
    lines = []
    for name, own in saved.items():
        tokens = "" if own["prompt_tokens"] is None else f", about {own['prompt_tokens']:,} prompt tokens"
        lines.append(f"{name}: {own['skipped']:,} questions were clear before{tokens} saved")
    return lines
