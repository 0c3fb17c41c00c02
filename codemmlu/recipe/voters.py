"""The section `voters`: the model, wording and method of each voter."""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Discriminator, Field, JsonValue, Tag, model_validator

from codemmlu.recipe.base import Name, Settings
from codemmlu.recipe.digests import left_out


class WhenSettings(Settings):
    """A cascade: the voter is asked only the questions that cheaper voters leave unclear.

    With `margin_below` a question is unclear where the two likeliest choices, by the mean of the cheaper voters'
    probabilities, are less than that apart, or where none of these voters has an answer. With `undecided_by` it is
    unclear where none of these voters gives a choice at least the probability `confidence`. A question that an earlier
    cascade found clear stays clear.

    Attributes:
        margin_below: Margin below which a question is unclear.
        of: Names of the cheaper voters, with `margin_below`.
        undecided_by: Names of the voters that decide alone, such as those that look at tools.
        confidence: The learnt probability from which a voter of `undecided_by` decides.
    """

    margin_below: Annotated[float, Field(gt=0, le=1)] | None = None
    of: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    undecided_by: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    confidence: Annotated[float, Field(gt=0.5, le=1)] | None = None

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if (self.margin_below is None) == (self.undecided_by is None):
            raise ValueError("give either margin_below with of, or undecided_by with confidence")
        if (self.of is None) != (self.margin_below is None):
            raise ValueError("of: names the voters of margin_below; with undecided_by leave it out")
        if self.confidence is not None and self.undecided_by is None:
            raise ValueError("confidence: belongs to undecided_by; with margin_below leave it out")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the voters that are waited for."""
        return self.of or self.undecided_by or ()

    @property
    def enough(self) -> float:
        """Return the probability from which a voter of `undecided_by` decides."""
        return 0.9 if self.confidence is None else self.confidence


Adapters = str | Annotated[tuple[str, ...], Field(min_length=2)] | None


class _ModelVoter(Settings):
    """A voter that asks a model; settings in `_AFTERWARDS` only process stored answers."""

    model: str
    # The name of what `finetune` trains, or a directory with LoRA weights; of several, the mean of their weights.
    adapter: Adapters = None
    template: Literal["codemmlu", "reference"] = "codemmlu"
    examples: Annotated[int, Field(ge=0, le=32)] = 0  # solved examples shown before the question, best last
    when: WhenSettings | None = None  # None: every question is asked

    @property
    def pool(self) -> str:
        """Return the name of the pool of engines that answers."""
        return self.model


class DirectVoter(_ModelVoter):
    """A voter that reads a letter directly after the question."""

    method: Literal["direct"] = "direct"
    # Number of readings, each with another order of the choices. cyclic: every choice is at every letter once.
    readings: Annotated[int, Field(ge=1, le=120)] | Literal["cyclic", "all"] = 1
    # The letter prior to divide out is estimated from the run's own readings (prior) or empty questions (null-prompt).
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
    """The reference project's agent: it answers, checks, and answers again without the refused choices."""

    method: Literal["verify"]
    # P(TRUE) from which an answer is accepted; fit: the best threshold for the examples of vote.fit
    threshold: Annotated[float, Field(ge=0, le=1)] | Literal["fit"] = 0.5


class VerifyRankVoter(_ModelVoter):
    """A voter that checks every choice, and answers with the highest P(answer) x P(TRUE)."""

    method: Literal["verify-rank"]


class ReasonVoter(_ModelVoter):
    """A voter whose model thinks first, in free text, and then gives a letter."""

    method: Literal["reason"]
    max_tokens: Annotated[int, Field(ge=1)] = 512  # of the thought; a letter follows even where the thought is cut off

    @model_validator(mode="after")
    def _shows_no_examples(self) -> Self:
        if self.examples:
            raise ValueError("examples: solved examples have no thoughts to show; leave them out of `reason`")
        return self


class SampleVoter(_ModelVoter):
    """Self-consistency: the share of each letter among several free-text replies (Wang et al. 2022)."""

    method: Literal["sample"]
    n: Annotated[int, Field(ge=1, le=64)] = 6
    max_tokens: Annotated[int, Field(ge=1)] = 64
    temperature: Annotated[float, Field(gt=0, le=2)] = 0.7
    top_k: Annotated[int, Field(ge=0)] = 20  # 0: all
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.8
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.05
    retry: bool = True  # a reply without a letter is followed by a reading of the letters


class RetrieveVoter(Settings):
    """A voter that transfers the answers of the nearest solved examples to a question, without an engine."""

    method: Literal["retrieve"]
    neighbours: Annotated[int, Field(ge=1, le=256)] = 64
    # Cosine of the nearest example below which the voter abstains; 0 or less: it always answers.
    abstain_below: Annotated[float, Field(ge=-1, le=1)] = 0.5

    @property
    def pool(self) -> str:
        """Return the name of the pool of workers without an engine."""
        return self.method


class _EvidenceVoter(Settings):
    """A voter that looks at tools or at the text, without an engine; what its findings are worth is learnt."""

    # bubblewrap: all languages, in namespaces. seccomp: Python alone, without privileges. auto: the first that works.
    sandbox: Literal["auto", "bubblewrap", "seccomp"] = "auto"
    # The most labelled examples that are looked at to learn what a finding is worth.
    learn_from: Annotated[int, Field(ge=1)] = 5000

    @property
    def pool(self) -> str:
        """Return the name of the pool of workers without an engine."""
        return str(getattr(self, "method"))  # noqa: B009 - each voter declares its own literal


class StaticVoter(_EvidenceVoter):
    """A voter that compiles or parses the code of a question, alone or with each choice in its place."""

    method: Literal["static"]


class ExecuteVoter(_EvidenceVoter):
    """A voter that runs the program of a question, and matches what it printed to the choices."""

    method: Literal["execute"]


class VerbatimVoter(_EvidenceVoter):
    """A voter that finds a choice beside the gap it is to fill: an artefact, a defect of how a file was made."""

    method: Literal["verbatim"]


class ProbeVoter(Settings):
    """A voter that reads a model's hidden states at each choice; what they are worth is learnt on examples."""

    method: Literal["probe"]
    model: str
    adapter: Adapters = None  # as of any voter with a model; then it learns on examples that these weights never saw
    template: Literal["codemmlu", "reference"] = "codemmlu"
    layer: Annotated[float, Field(gt=0, le=1)] = 0.75  # the share of the layers that a state has passed
    dimensions: Annotated[int, Field(ge=2, le=1024)] = 128  # of a state, after a fixed random projection
    # The most labelled examples whose states are read to learn what a state is worth.
    learn_from: Annotated[int, Field(ge=1)] = 5000

    @property
    def pool(self) -> str:
        """Return the name of the pool that reads the model's states."""
        return f"{self.model}.states"


class ChoicesOnlyVoter(_EvidenceVoter):
    """A voter that looks at the form and length of choices alone: an artefact, a habit of those who write questions."""

    method: Literal["choices-only"]


class SubmissionVoter(Settings):
    """Another system's answers, a CSV file of `task_id,answer`: no inference; a missing id has no answer."""

    method: Literal["submission"]
    source: str  # path | s3://... | gs://...


def _method(value: Any) -> str:
    # A value that is neither a dict nor a voter is a mistake, which validation as a DirectVoter reports.
    return str(value.get("method", "direct") if isinstance(value, dict) else getattr(value, "method", "direct"))


# Voters that ask a model.
ModelVoter = DirectVoter | VerifyVoter | VerifyRankVoter | ReasonVoter | SampleVoter
VoterSettings = Annotated[
    Annotated[DirectVoter, Tag("direct")]
    | Annotated[VerifyVoter, Tag("verify")]
    | Annotated[VerifyRankVoter, Tag("verify-rank")]
    | Annotated[ReasonVoter, Tag("reason")]
    | Annotated[SampleVoter, Tag("sample")]
    | Annotated[RetrieveVoter, Tag("retrieve")]
    | Annotated[StaticVoter, Tag("static")]
    | Annotated[ExecuteVoter, Tag("execute")]
    | Annotated[VerbatimVoter, Tag("verbatim")]
    | Annotated[ProbeVoter, Tag("probe")]
    | Annotated[ChoicesOnlyVoter, Tag("choices-only")]
    | Annotated[SubmissionVoter, Tag("submission")],
    Discriminator(_method),
]


# Voters that look at tools or at the text.
EvidenceVoter = StaticVoter | ExecuteVoter | VerbatimVoter | ChoicesOnlyVoter
# Voters that read a defect of how a benchmark was made, and not the problem.
ARTEFACT_VOTERS = (VerbatimVoter, ChoicesOnlyVoter)
# Voters that need inference: by a model, by the index, or by tools.
AskedVoter = ModelVoter | RetrieveVoter | EvidenceVoter | ProbeVoter

METHODS = tuple(
    tag.tag for kind in get_args(get_args(VoterSettings)[0]) for tag in get_args(kind) if isinstance(tag, Tag)
)
# Settings of a voter that only process stored answers: changing them needs no new inference.
_AFTERWARDS = {"calibrate", "abstain_below", "when", "learn_from"}
# Settings of the model and the wording; all others belong to the method.
_WHOM = {"method", "model", "adapter", "template", "examples"}


def method_settings(voter: AskedVoter) -> dict[str, JsonValue]:
    """Return the settings of a voter's method that influence the stored answers."""
    unused: set[str] = set() if exits_early(voter) else {"margin"}
    return voter.model_dump(exclude=_AFTERWARDS | _WHOM | {"early_exit"} | unused | left_out(voter))


def exits_early(voter: VoterSettings) -> bool:
    """Return whether a voter reads a question again only while its likeliest choices are close."""
    return isinstance(voter, DirectVoter) and voter.early_exit == "margin"


def when_of(voter: VoterSettings) -> WhenSettings | None:
    """Return the condition under which a voter is asked; None: always."""
    return voter.when if isinstance(voter, ModelVoter) else None


def adapter_names(voter: VoterSettings) -> tuple[str, ...]:
    """Return the LoRA weights of a voter: names of what `finetune` trains, or directories; several are mixed."""
    if not isinstance(voter, ModelVoter | ProbeVoter) or voter.adapter is None:
        return ()
    return (voter.adapter,) if isinstance(voter.adapter, str) else voter.adapter


def model_name(voter: VoterSettings) -> str | None:
    """Return the name of the model that a voter asks, or whose states it reads; None without one."""
    return voter.model if isinstance(voter, ModelVoter | ProbeVoter) else None


def uses_examples(voter: VoterSettings) -> bool:
    """Return whether a voter looks at solved examples, and so needs an index of examples."""
    return isinstance(voter, RetrieveVoter) or (isinstance(voter, ModelVoter) and voter.examples > 0)
