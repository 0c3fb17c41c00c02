"""The verdicts without artefact voters, and the lines on artefacts, savings and the mix of kinds."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from codemmlu.cli.job import JobContext
from codemmlu.inference.voters import Ensemble
from codemmlu.report.artefacts import artefact_voters
from codemmlu.report.evidence_results import ArtefactReport, MixReport, Saving
from codemmlu.run_dir import RunDir
from codemmlu.voting import reduction
from codemmlu.voting.fit_split import learn


def letters_without(
    job: JobContext,
    run: RunDir,
    ensemble: Ensemble,
    reduced: reduction.ReduceResult,
    partitions: reduction.Partitions,
) -> npt.NDArray[np.int8] | None:
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
    election = reduction.Election.of(recipe.vote.rule, learnt.fitted, reduced.columns)
    return reduction.letters_without(run, election, partitions, frozenset(names))


def artefact_line(section: ArtefactReport | None) -> list[str]:
    """Return a line on the total without artefact voters."""
    if section is None:
        return []
    names, without = ", ".join(section.voters), section.vote_without
    if without is None:
        return [f"Artefact voters, which read a defect of the file: {names}. No total without them exists."]
    if without.accuracy is None or without.interval is None:
        return [f"Artefact voters, which read a defect of the file and not the problem: {names}."]
    low, high = without.interval
    share = f"{without.accuracy:.1%} right (95 % interval {low:.1%} to {high:.1%})"
    return [f"Without the artefact voters ({names}), which read a defect of the file: {share}."]


def saved_lines(saved: Mapping[str, Saving] | None) -> list[str]:
    """Return a line for each voter that a cascade spares questions."""
    lines = []
    for name, own in (saved or {}).items():
        tokens = "" if own.prompt_tokens is None else f", about {own.prompt_tokens:,} prompt tokens"
        lines.append(f"{name}: {own.skipped:,} questions were clear before{tokens} saved")
    return lines


def mix_lines(mix: MixReport | None) -> list[str]:
    """Return a line on the vote in the mix of kinds of report.mix."""
    if mix is None or mix.vote.accuracy is None or mix.vote.interval is None:
        return []
    low, high = mix.vote.interval
    share = f"{mix.vote.accuracy:.1%} right (95 % interval {low:.1%} to {high:.1%})"
    return [f"In the mix of kinds of report.mix, the vote is {share}."]
