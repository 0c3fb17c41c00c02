"""The section `voters`: who is asked, in which words, by which method."""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, JsonValue, Tag, model_validator

from codemmlu.recipe.base import Name, Settings


class WhenSettings(Settings):
    """A cascade: only questions that cheaper voters leave unclear are asked.

    Unclear: between the two likeliest choices, by the mean of what those voters say, there is less than `margin_below`;
    or none of them has an answer. What a cascade before this one found clear stays clear.
    """

    margin_below: Annotated[float, Field(gt=0, le=1)]
    of: Annotated[tuple[Name, ...], Field(min_length=1)]


class _ModelVoter(Settings):
    """A voter that asks a model. What is done with the answers afterwards is no part of the ask: `_AFTERWARDS`."""

    model: str
    adapter: str | None = None  # the name of what `finetune` trains, or a directory with LoRA weights
    template: Literal["codemmlu", "reference"] = "codemmlu"
    examples: Annotated[int, Field(ge=0, le=32)] = 0  # solved examples shown before the question, best last
    when: WhenSettings | None = None  # None: every question is asked

    @property
    def pool(self) -> str:
        """What answers: engines of this name."""
        return self.model


class DirectVoter(_ModelVoter):
    """Shown the question, a model says a letter."""

    method: Literal["direct"] = "direct"
    # How often the model looks, each time at another order of the choices. cyclic: every choice at every letter once.
    readings: Annotated[int, Field(ge=1, le=120)] | Literal["cyclic", "all"] = 1
    # What the letters' prior is estimated from before it is divided out: the run's own readings, or empty questions.
    calibrate: Literal["none", "prior", "null-prompt"] = "none"
    # margin: a question is read again only while its two likeliest choices are less than `margin` apart.
    early_exit: Literal["none", "margin"] = "none"
    margin: Annotated[float, Field(gt=0, le=1)] = 0.3

    @model_validator(mode="after")
    def _exits_by_a_calibrated_margin(self) -> Self:
        if self.early_exit == "margin" and self.calibrate == "none":
            raise ValueError("early_exit: a margin says nothing while letters are liked; set calibrate to prior")
        if self.early_exit == "margin" and self.readings == 1:
            raise ValueError("early_exit: of one reading there is none to skip; set readings to cyclic")
        return self


class VerifyVoter(_ModelVoter):
    """The reference project's agent: answers, checks its answer, and answers again without what it refused."""

    method: Literal["verify"]
    # P(TRUE) from which on an answer is accepted; fit: the best one for the examples of vote.fit
    threshold: Annotated[float, Field(ge=0, le=1)] | Literal["fit"] = 0.5


class VerifyRankVoter(_ModelVoter):
    """Every choice is checked; the answer is the one with the highest P(answer) x P(TRUE)."""

    method: Literal["verify-rank"]


class ReasonVoter(_ModelVoter):
    """The model thinks first, in free text, and then says a letter."""

    method: Literal["reason"]
    max_tokens: Annotated[int, Field(ge=1)] = 512  # of the thought; a letter follows where it is cut off

    @model_validator(mode="after")
    def _shows_no_examples(self) -> Self:
        if self.examples:
            raise ValueError("examples: solved examples have no thoughts to show; leave them out of `reason`")
        return self


class SampleVoter(_ModelVoter):
    """Self-consistency: several free replies, and the share of each letter among them (Wang et al. 2022)."""

    method: Literal["sample"]
    n: Annotated[int, Field(ge=1, le=64)] = 6
    max_tokens: Annotated[int, Field(ge=1)] = 64
    temperature: Annotated[float, Field(gt=0, le=2)] = 0.7
    top_k: Annotated[int, Field(ge=0)] = 20  # 0: all
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.8
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.05
    retry: bool = True  # a reply that says no letter is followed by a reading of the letters


class RetrieveVoter(Settings):
    """The solved examples nearest to a question say which choice is right. No engine is asked."""

    method: Literal["retrieve"]
    neighbours: Annotated[int, Field(ge=1, le=256)] = 64
    abstain_below: Annotated[float, Field(ge=-1, le=1)] = (
        0.5  # cosine of the nearest example; 0 or less: always answers
    )

    @property
    def pool(self) -> str:
        """What answers: workers without an engine."""
        return self.method


class SubmissionVoter(Settings):
    """Another system's answers: a CSV file of `task_id,answer`. Nobody is asked; an id that it lacks is no answer."""

    method: Literal["submission"]
    source: str  # path | s3://... | gs://...


def _method(value: Any) -> str:
    # What is neither is no voter at all: the kind it is then compared with says so.
    return str(value.get("method", "direct") if isinstance(value, dict) else getattr(value, "method", "direct"))


# Voters that are asked: of a model, or of the index.
ModelVoter = DirectVoter | VerifyVoter | VerifyRankVoter | ReasonVoter | SampleVoter
VoterSettings = Annotated[
    Annotated[DirectVoter, Tag("direct")]
    | Annotated[VerifyVoter, Tag("verify")]
    | Annotated[VerifyRankVoter, Tag("verify-rank")]
    | Annotated[ReasonVoter, Tag("reason")]
    | Annotated[SampleVoter, Tag("sample")]
    | Annotated[RetrieveVoter, Tag("retrieve")]
    | Annotated[SubmissionVoter, Tag("submission")],
    Discriminator(_method),
]


AskedVoter = ModelVoter | RetrieveVoter

METHODS = ("direct", "verify", "verify-rank", "reason", "sample", "retrieve", "submission")
# Settings of a voter that say what is made of stored answers: changing them asks nothing again.
_AFTERWARDS = {"calibrate", "abstain_below", "when"}
# Settings that say who is asked in which words; the rest are the method's own.
_WHOM = {"method", "model", "adapter", "template", "examples"}


def method_settings(voter: AskedVoter) -> dict[str, JsonValue]:
    """What a voter's method is told about how to ask."""
    exits = isinstance(voter, DirectVoter) and voter.early_exit == "margin"
    return voter.model_dump(exclude=_AFTERWARDS | _WHOM | {"early_exit"} | (set() if exits else {"margin"}))


def when_of(voter: VoterSettings) -> WhenSettings | None:
    """The condition under which a voter is asked; None: always."""
    return None if isinstance(voter, RetrieveVoter | SubmissionVoter) else voter.when


def adapter_name(voter: VoterSettings) -> str | None:
    """The LoRA weights that a voter answers with: the name of what `finetune` trains, or a directory."""
    return None if isinstance(voter, RetrieveVoter | SubmissionVoter) else voter.adapter


def uses_examples(voter: VoterSettings) -> bool:
    """Whether a voter looks at solved examples, and so needs an index of them."""
    return isinstance(voter, RetrieveVoter) or (not isinstance(voter, SubmissionVoter) and voter.examples > 0)
