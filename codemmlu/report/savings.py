"""What a cascade saves: the questions that a voter is not asked, and about how many tokens these would have been."""

from collections.abc import Mapping

from codemmlu.report.evidence_results import Saving
from codemmlu.report.schema import VoterReport
from codemmlu.report.score_table import ScoreTable
from codemmlu.voting.ballots import STATUSES

_SKIPPED = STATUSES.index("skipped")


def savings(scores: ScoreTable, voters: Mapping[str, VoterReport]) -> dict[str, Saving]:
    """Return the savings of each voter that is asked some questions only.

    Args:
        scores: The score table.
        voters: The section `voters` of the report.

    Returns:
        By voter, its savings.
    """
    sections = {}
    for name, column in scores.voters.items():
        skipped = column.status == _SKIPPED
        if skipped.any():
            read, left = int(scores.characters[~skipped].sum()), int(scores.characters[skipped].sum())
            tokens = round(voters[name].prompt_tokens * left / read) if read else None
            sections[name] = Saving(skipped=int(skipped.sum()), prompt_tokens=tokens)
    return sections
