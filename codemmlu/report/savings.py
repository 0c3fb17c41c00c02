"""What a cascade saves: the questions that a voter is not asked, and about how many tokens these would have been."""

from collections.abc import Mapping
from typing import Any

from codemmlu.report.score_table import ScoreTable
from codemmlu.voting.ballots import STATUSES

_SKIPPED = STATUSES.index("skipped")


def savings(scores: ScoreTable, voters: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the savings of each voter that is asked some questions only.

    Args:
        scores: The score table.
        voters: The section `voters` of the report.

    Returns:
        By voter: `skipped` questions, and `prompt_tokens` at the mean length per character of the questions that it
        was asked; None where it was asked none.
    """
    sections = {}
    for name, column in scores.voters.items():
        skipped = column.status == _SKIPPED
        if skipped.any():
            read, left = int(scores.characters[~skipped].sum()), int(scores.characters[skipped].sum())
            tokens = round(voters[name]["prompt_tokens"] * left / read) if read else None
            sections[name] = {"skipped": int(skipped.sum()), "prompt_tokens": tokens}
    return sections
