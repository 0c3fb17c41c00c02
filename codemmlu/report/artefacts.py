"""Totals without artefact voters, which read a defect of the benchmark and not the problem."""

import numpy as np
import numpy.typing as npt

from codemmlu.evidence import PROBES
from codemmlu.recipe import EvidenceVoter, Recipe
from codemmlu.report import statistics
from codemmlu.report.evidence_results import ArtefactReport, VoteWithout
from codemmlu.report.score_table import ScoreTable


def artefact_voters(recipe: Recipe) -> list[str]:
    """Return the names of a recipe's artefact voters."""
    voters = recipe.asked.items()
    return [name for name, voter in voters if isinstance(voter, EvidenceVoter) and PROBES[voter.method].artefact]


def totals(recipe: Recipe, scores: ScoreTable, letters: npt.NDArray[np.int8] | None) -> ArtefactReport | None:
    """Return the section `artefacts` of the report; None where no voter is an artefact voter.

    Args:
        recipe: The recipe.
        scores: The score table.
        letters: The verdicts of all other voters, as indices of letters in the order of positions; None without any.
    """
    names = artefact_voters(recipe)
    if not names:
        return None
    if letters is None:
        return ArtefactReport(voters=names, vote_without=None)
    counted = scores.labelled
    right, asked = int((counted & (letters == scores.right)).sum()), int(counted.sum())
    without = VoteWithout(
        accuracy=right / asked if asked else None,
        interval=statistics.wilson(right, asked),
        answered=int((letters >= 0).sum()),
    )
    return ArtefactReport(voters=names, vote_without=without)
