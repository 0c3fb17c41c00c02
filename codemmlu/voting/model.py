"""The ensemble model: what a vote learns from the fit split and from the agreement of the voters."""

from pydantic import BaseModel, ConfigDict


class _Values(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VoterFit(_Values):
    """The fitted numbers of one voter.

    The defaults describe a voter without a fit: its probabilities as they are, the same weight as all others and
    the skill that agreement shows.

    Attributes:
        temperature: The divisor of the log-probabilities.
        weight: The weight in the pool of log-probabilities.
        skill: The share of questions that the voter knows; it guesses the others.
        right: How many questions of the fit split it has right.
        asked: How many questions of the fit split it was asked and did not fail on.
        looks: Whether the voter looks at solved examples.
    """

    temperature: float = 1.0
    weight: float = 1.0
    skill: float = 0.5
    right: int = 0
    asked: int = 0
    looks: bool = False


class KindFit(_Values):
    """The fitted numbers of all voters on one kind of question.

    Attributes:
        voters: The fitted numbers by voter.
        strength: The factor of the weighted mean, as in `EnsembleModel`.
        fitted_on: The number of questions of the kind that the numbers are fitted on.
    """

    voters: dict[str, VoterFit]
    strength: float
    fitted_on: int


class EnsembleModel(_Values):
    """Everything that rules may know besides the votes.

    Attributes:
        voters: The fitted numbers by voter.
        strength: The factor of the weighted mean of all voters' log-probabilities; None where weights are not fitted.
        agreed: Each voter's skill by agreement alone.
        stacked: The weights of the rule `stacked`, by feature.
        subjects: The subjects that have features of their own.
        margin: The margin of the rule `cascade`.
        order: The order in which `cascade` takes the voters.
        similarity: The mean similarity on the fit split, from which differences are measured.
        fitted_on: The number of questions that the model is fitted on.
        cross_validated: Each rule's accuracy on the fit split, with weights that had not seen the row.
        kinds: The fitted numbers by kind of question; empty where the fit split shows no difference between kinds.
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
    kinds: dict[str, KindFit] = {}

    def of(self, voter: str) -> VoterFit:
        """Return the fitted numbers of a voter, or the defaults with the skill by agreement."""
        return self.voters.get(voter) or VoterFit(skill=self.agreed.get(voter, 0.5))

    def on(self, kind: str) -> "EnsembleModel":
        """Return the model for one kind of question: the whole's, where the kind has no numbers of its own."""
        own = self.kinds.get(kind)
        voters = {} if own is None else {"voters": own.voters, "strength": own.strength}
        return self.model_copy(update={**voters, "kinds": {}})
