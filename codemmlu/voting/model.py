"""What the vote has learnt: from solved examples that are not asked, and from how far the voters agree."""

from pydantic import BaseModel, ConfigDict


class _Values(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VoterFit(_Values):
    """One voter. Without a fit: its word as it stands, a weight like all others', and the skill that agreement shows.

    temperature: by which its log-probabilities are divided; skill: the share of questions it knows, the others guessed
    right, asked: on the fit split; looks: whether it looks at solved examples
    """

    temperature: float = 1.0
    weight: float = 1.0
    skill: float = 0.5
    right: int = 0
    asked: int = 0
    looks: bool = False


class EnsembleModel(_Values):
    """All that rules may know besides the votes.

    strength: what the mean of all voters' log-probabilities is multiplied with, None: their weights were not fitted
    agreed: each voter's skill by agreement alone
    stacked: the weights of `stacked` by feature; subjects: those with features of their own
    margin, order: of `cascade`; similarity: the mean of the fit split's, from which others are told
    fitted_on: questions; cross_validated: each rule's accuracy on the fit split, by weights that had not seen a row
    """

    voters: dict[str, VoterFit] = {}
    strength: float | None = None
    agreed: dict[str, float] = {}
    stacked: dict[str, float] | None = None
    subjects: tuple[str, ...] = ()
    margin: float = 0.2
    order: tuple[str, ...] = ()
    similarity: float = 0.5
    fitted_on: int = 0
    cross_validated: dict[str, float] = {}

    def of(self, voter: str) -> VoterFit:
        """What is known of a voter."""
        return self.voters.get(voter) or VoterFit(skill=self.agreed.get(voter, 0.5))
