"""The recipe: what a run is, as frozen pydantic models read from one YAML file and `key.path=value` overrides.

An unknown key, a wrong type or a name that points nowhere is a fault of the person: all faults are said at once, each
with its key path, before anything starts.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    StringConstraints,
    Tag,
    ValidationError,
    model_validator,
)

from codemmlu.errors import UserError

# Names of models and voters become folders and column values.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class _SourceSettings(_Settings):
    """Where rows are and how they are read. See `codemmlu/questions/clean.py` for the cleaning rules."""

    limit: Annotated[int, Field(ge=1)] | None = None  # the first n accepted rows, in file order
    subjects: tuple[str, ...] | None = None  # None: all
    columns: dict[Literal["task_id", "question", "choices", "answer", "subject"], str] = {}  # our name: theirs
    answers: Literal["letter", "zero-based", "one-based", "text"] = "letter"
    encoding: str = "utf-8-sig"
    split: str = "test"  # Hub only
    revision: str | None = None  # Hub only

    @model_validator(mode="after")
    def _encoding_exists(self) -> Self:
        try:
            "".encode(self.encoding)
        except LookupError:
            raise ValueError(f"encoding: there is no {self.encoding!r}; try utf-8-sig or cp1252") from None
        return self


class HoldoutSettings(_Settings):
    """`n` labelled questions, chosen by a seeded hash, are asked; all others of the same source are examples."""

    n: Annotated[int, Field(ge=1)]
    seed: int = 0


class QuestionSettings(_SourceSettings):
    """The questions that are asked."""

    source: str = "sample"  # sample | path | glob | s3://... | gs://... | OWNER/NAME on the Hub
    holdout: HoldoutSettings | None = None  # where examples.source is the same: which of its rows are asked


class EmbedderSettings(_Settings):
    """The sentence-transformers model that turns texts into vectors."""

    source: str = "embedded"  # embedded | OWNER/NAME on the Hub | directory
    revision: str | None = None  # Hub only
    batch_size: Annotated[int, Field(ge=1)] = 32  # texts in one forward pass
    device: Annotated[str, StringConstraints(pattern=r"^(cpu|cuda)$")] = "cpu"


class ExampleSettings(_SourceSettings):
    """Solved questions: what is indexed, and which of them a question is shown."""

    source: str | None = None  # as questions.source; None: `index` names one that stands already, or there is none
    index: str | None = None  # the index directory or address; None: in the run directory
    embedder: EmbedderSettings = EmbedderSettings()
    text: Literal["question", "question+choices"] = "question"  # what is embedded, of examples and of questions
    kind: Literal["auto", "exact", "hnsw", "ivfpq"] = "auto"  # auto: by size
    shard: Annotated[int, Field(ge=1)] = 200_000  # examples in one FAISS file
    # Never shown: the question itself by task_id; `same`: nor one with the same text. None: same where labels are.
    exclude: Literal["same", "task_id"] | None = None
    near_duplicates: Literal["keep", "drop"] = "keep"  # drop: nor one at a similarity of 0.97 and more
    min_similarity: Annotated[float, Field(ge=-1, le=1)] = -1.0  # cosine, below which no example is shown
    diversity: Annotated[float, Field(ge=0, lt=1)] = 0.0  # maximal marginal relevance: 0 takes the nearest
    tokens: Annotated[int, Field(ge=1)] = 2000  # of all examples in one prompt together; what is longer is left out


class ModelSettings(_Settings):
    """One model and the engine that serves it. None leaves a value to vLLM."""

    source: str  # embedded | OWNER/NAME on the Hub | directory | FILE.gguf
    revision: str | None = None  # Hub only: a branch, tag or commit
    tensor_parallel: Annotated[int, Field(ge=1)] | None = None  # GPUs that share each layer; None: as memory needs
    pipeline_parallel: Annotated[int, Field(ge=1)] | None = None  # groups of them, each with some of the layers
    # Engines, or [least, most] of a pool that grows. None: as many as the cluster's GPUs hold; 1 on the CPU
    replicas: Annotated[int, Field(ge=1)] | tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = (
        None
    )
    experts_per_token: Annotated[int, Field(ge=1)] | None = None  # of a mixture of experts; None: the model's own
    expert_parallel: bool = False  # whole experts on each GPU instead of a part of every one
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    quantization: str | None = None
    max_model_len: Annotated[int, Field(ge=16)] | None = None
    max_num_seqs: Annotated[int, Field(ge=1)] | None = None  # prompts at once; None: 256, or what memory holds
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    cpu_kv_cache_gib: Annotated[int, Field(ge=1)] = 2  # without a GPU: memory for the KV cache
    trust_remote_code: bool = False  # runs Python code that comes with the model
    engine: dict[str, JsonValue] = {}  # any other vLLM engine argument, by vLLM's own name

    @model_validator(mode="after")
    def _engine_does_not_repeat(self) -> Self:
        ours = {
            "model": "source",
            "tokenizer": "source",
            "revision": "revision",
            "tensor_parallel_size": "tensor_parallel",
            "pipeline_parallel_size": "pipeline_parallel",
            "enable_expert_parallel": "expert_parallel",
            "load_format": "source",
            **{name: name for name in ("dtype", "quantization", "max_model_len", "max_num_seqs")},
            **{name: name for name in ("gpu_memory_utilization", "trust_remote_code")},
        }
        if repeated := sorted(set(self.engine) & set(ours)):
            raise ValueError(f"engine.{repeated[0]}: say this with `{ours[repeated[0]]}`, one level up")
        if self.experts_per_token and "hf_overrides" in self.engine:
            raise ValueError("engine.hf_overrides: give num_experts_per_tok in it as well, or use experts_per_token")
        if self.engines and self.engines[0] > self.engines[1]:
            raise ValueError(f"replicas: [least, most], and {self.engines[0]} is more than {self.engines[1]}")
        return self

    @property
    def engines(self) -> tuple[int, int] | None:
        """(least, most) engines; None: what the cluster holds."""
        return (self.replicas, self.replicas) if isinstance(self.replicas, int) else self.replicas


class FinetuneSettings(_Settings):
    """LoRA weights for one model, trained on the train part of the examples. The defaults are the reference project's.

    One step of the optimizer sees batch_size x accumulation x workers sequences.
    """

    model: str
    name: Name = "tuned"  # voters answer with it by `adapter: NAME`; it is kept in the run's adapters/NAME
    objective: Literal["answer", "preference"] = "answer"  # preference: the right choice over the likeliest wrong one
    pairs_from: str | None = None  # a run that answered examples: what its model likes best tells the wrong choices
    beta: Annotated[float, Field(gt=0)] = 0.1  # of preference tuning: how near to the model it starts from it stays
    start: str | None = None  # a directory with LoRA weights to go on from; None: anew
    backend: Literal["auto", "unsloth", "peft"] = "auto"
    quantization: Literal["nf4", "none"] = "nf4"  # of the frozen weights while training (QLoRA, arXiv:2305.14314)
    template: Literal["codemmlu", "reference"] = "codemmlu"
    limit: Annotated[int, Field(ge=1)] | None = None  # so many examples of the train part; None: all
    synthesise: Annotated[int, Field(ge=0)] = 0  # generated questions besides, each proved by running it
    examples: Annotated[int, Field(ge=0, le=32)] = 0  # solved examples shown before a question, as voters show them
    withhold: Annotated[float, Field(ge=0, le=1)] = (
        0.2  # share of questions shown none of them (RAFT, arXiv:2403.10131)
    )
    reorder: bool = True  # each epoch shows the choices in another order
    epochs: Annotated[int, Field(ge=1)] = 1
    batch_size: Annotated[int, Field(ge=1)] = 8  # sequences that a worker holds at once
    accumulation: Annotated[int, Field(ge=1)] = 4
    workers: Annotated[int, Field(ge=1)] = 1
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_steps: Annotated[int, Field(ge=0)] = 5
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    optimizer: Literal["adamw_8bit", "adamw"] = "adamw_8bit"  # 8 bit: bitsandbytes' states
    rank: Annotated[int, Field(ge=1, le=512)] = 16
    alpha: Annotated[int, Field(ge=1)] = 16
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    gradient_checkpointing: bool = True
    max_length: Annotated[int, Field(ge=16)] = 8092  # tokens; what is longer is left out and counted, never cut
    seed: int = 3407
    evaluations: Annotated[int, Field(ge=1)] = 2  # in one epoch, on the tune part
    tune_limit: Annotated[int, Field(ge=1)] = 256  # examples of the tune part
    patience: Annotated[int, Field(ge=1)] = 4  # evaluations without a better one after which training stops
    checkpoint_steps: Annotated[int, Field(ge=1)] = 25
    merge: bool = False  # writes the model with the weights added as well, for engines without LoRA

    @model_validator(mode="after")
    def _objective_has_what_it_needs(self) -> Self:
        if self.objective == "preference" and not self.pairs_from:
            raise ValueError("pairs_from: preference tuning takes its pairs from a run's answers; name its directory")
        if self.objective == "answer" and self.pairs_from:
            raise ValueError("pairs_from: needs objective=preference")
        if self.objective == "preference" and (self.examples or self.synthesise):
            raise ValueError("objective: preference tuning shows no examples and makes no questions; leave both at 0")
        return self


class WhenSettings(_Settings):
    """A cascade: only questions that cheaper voters leave unclear are asked.

    Unclear: between the two likeliest choices, by the mean of what those voters say, there is less than `margin_below`;
    or none of them has an answer. What a cascade before this one found clear stays clear.
    """

    margin_below: Annotated[float, Field(gt=0, le=1)]
    of: Annotated[tuple[Name, ...], Field(min_length=1)]


class _ModelVoter(_Settings):
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


class RetrieveVoter(_Settings):
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


class SubmissionVoter(_Settings):
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

_METHODS = ("direct", "verify", "verify-rank", "reason", "sample", "retrieve", "submission")
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


Rule = Literal[
    "log_pool", "majority", "weighted", "borda", "instant_runoff", "dawid_skene", "cascade", "stacked"
]  # see codemmlu/voting/rules.py
# Rules that are nothing before they are fitted.
FITTED_RULES = ("stacked",)


class FitSettings(_Settings):
    """What is fitted is fitted on `limit` examples of the fit split, asked as the questions are; never on these."""

    limit: Annotated[int, Field(ge=1)] = 300


class VoteSettings(_Settings):
    """How the voters' probabilities become one verdict. With one voter every rule gives that voter's answer."""

    rule: Rule = "log_pool"
    fit: FitSettings | None = None  # None: nothing is fitted, all voters weigh the same
    # Of the rule `cascade`: the voters in turn, and the margin from which on one is clear enough to be the last.
    # None: as they stand in the recipe; and the margin that served the fit split best, 0.2 without one.
    order: tuple[Name, ...] | None = None
    margin: Annotated[float, Field(ge=0, le=1)] | None = None
    part: Annotated[int, Field(ge=1)] = 25_000  # questions that are reduced at once; of more parts Ray Data groups them


class ReportSettings(_Settings):
    """What is measured besides.

    order_sensitivity: voters whose accuracy is measured with the right choice swapped to A, B, C and D in turn
    (CodeMMLU, arXiv:2410.01999): four more times the asks, of questions that have an answer and four choices
    """

    order_sensitivity: tuple[Name, ...] = ()


class SubmissionSettings(_Settings):
    """submission.csv. `blank` stands where there is no answer."""

    blank: str = ""


class Recipe(_Settings):
    """A whole run."""

    out: str
    seed: int = 0
    # GPUs that the cluster may grow to, such as 4x1xL4: four nodes of one. None: those it has
    gpus: str | None = None
    questions: QuestionSettings = QuestionSettings()
    examples: ExampleSettings = ExampleSettings()
    models: dict[Name, ModelSettings] = {}
    voters: dict[Name, VoterSettings]
    vote: VoteSettings = VoteSettings()
    submission: SubmissionSettings = SubmissionSettings()
    finetune: FinetuneSettings | None = None  # None: nothing is trained
    report: ReportSettings = ReportSettings()

    @model_validator(mode="after")
    def _names_point_somewhere(self) -> Self:
        if not self.voters:
            raise ValueError("voters: at least one is needed")
        if "vote" in self.voters:
            raise ValueError("voters.vote: the report calls the verdicts so; choose another name")
        for name, voter in self.voters.items():
            if isinstance(voter, ModelVoter) and voter.model not in self.models:
                known = ", ".join(self.models) or "none"
                raise ValueError(f"voters.{name}.model: there is no model {voter.model!r}; models: {known}")
            if isinstance(voter, RetrieveVoter) and voter.pool in self.models:
                raise ValueError(
                    f"models.{voter.pool}: voters.{name} keeps its answers under that name; choose another"
                )
            if uses_examples(voter) and not (self.examples.source or self.examples.index):
                raise ValueError(f"voters.{name}: needs solved examples; give examples.source, or examples.index")
            if isinstance(voter, VerifyVoter) and voter.threshold == "fit" and not self.vote.fit:
                raise ValueError(f"voters.{name}.threshold: to fit it give vote.fit, such as vote.fit.limit=300")
            _check_when(name, self.voters)
        _check_vote(self.vote, self.voters)
        _check_finetune(self)
        for name in self.report.order_sensitivity:
            if name not in self.voters:
                raise ValueError(f"report.order_sensitivity: there is no voter {name!r}; {_known(self.voters)}")
            if isinstance(self.voters[name], SubmissionVoter):
                raise ValueError(f"report.order_sensitivity: {name} cannot be asked anything; name another voter")
            if when_of(self.voters[name]):
                raise ValueError(f"report.order_sensitivity: {name} is asked some questions only; name another voter")
        if self.vote.fit and self.examples.exclude == "task_id":
            raise ValueError("examples.exclude: with vote.fit examples are asked, and would see themselves; use same")
        if self.vote.fit and not self.examples.source:
            raise ValueError("vote.fit: what is fitted is fitted on solved examples; give examples.source")
        if not self.out.strip():
            raise ValueError("out: the run needs a directory")
        return self

    @property
    def asked(self) -> dict[str, "AskedVoter"]:
        """The voters that are asked something, by name."""
        return {name: voter for name, voter in self.voters.items() if not isinstance(voter, SubmissionVoter)}

    def as_yaml(self) -> str:
        """The resolved recipe, as it is kept in the run directory."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True)


def _known(voters: dict[str, Any]) -> str:
    return f"voters: {', '.join(voters)}"


def _check_vote(vote: VoteSettings, voters: dict[str, Any]) -> None:
    """Raises ValueError where the vote names what is not there."""
    if vote.rule in FITTED_RULES and not vote.fit:
        raise ValueError(f"vote.rule: {vote.rule} is fitted on solved examples; give vote.fit, or choose log_pool")
    for name in vote.order or ():
        if name not in voters:
            raise ValueError(f"vote.order: there is no voter {name!r}; {_known(voters)}")


def _check_finetune(recipe: "Recipe") -> None:
    """Raises ValueError where what is trained has no model or no examples, or a voter asks another model with it."""
    settings = recipe.finetune
    if settings is None:
        return
    if settings.model not in recipe.models:
        raise ValueError(f"finetune.model: there is no model {settings.model!r}; models: {', '.join(recipe.models)}")
    if not recipe.examples.source:
        raise ValueError("finetune: trains on solved examples; give examples.source")
    for name, voter in recipe.voters.items():
        if isinstance(voter, ModelVoter) and voter.adapter == settings.name and voter.model != settings.model:
            raise ValueError(
                f"voters.{name}.adapter: {settings.name} is trained for {settings.model}, not {voter.model}"
            )


def _check_when(name: str, voters: dict[str, Any]) -> None:
    """Raises ValueError where a cascade waits for a voter that is not there, or for itself."""
    waits: list[tuple[str, tuple[str, ...]]] = [(name, (name,))]
    while waits:
        voter, path = waits.pop()
        when = when_of(voters[voter])
        for other in when.of if when else ():
            if isinstance(voters.get(other), SubmissionVoter):
                raise ValueError(f"voters.{voter}.when.of: {other} is never unsure, it says letters alone")
            if other not in voters:
                raise ValueError(f"voters.{voter}.when.of: there is no voter {other!r}; {_known(voters)}")
            if other == name:
                raise ValueError(f"voters.{name}.when.of: it waits for itself: {' -> '.join((*path, name))}")
            if other not in path:
                waits.append((other, (*path, other)))


def load(path: str, overrides: list[str]) -> Recipe:
    """Reads a recipe and its overrides. Raises UserError with every fault, one after the other on one line."""
    values = _read(path)
    chosen = None
    for override in overrides:
        keys, value = _parse(override)
        if keys == ["voters"] and isinstance(value, list):
            chosen = value
        else:
            _set(values, keys, value, override)
    if chosen is not None:
        values["voters"] = _choose(values.get("voters") or {}, chosen)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: {'; '.join(_fault(e) for e in error.errors())}") from None


def digest(*parts: object) -> str:
    """A stable hash of plain values: 32 hex digits (128 bits) of their canonical JSON."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class _Loader(yaml.SafeLoader):
    """As the safe loader, but a key that stands there twice is a mistake and not the last one's victory."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """See yaml.SafeLoader."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if isinstance(key, str) and keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _read(path: str) -> dict[str, Any]:
    try:
        values = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UserError(f"{path}: the recipe cannot be read ({error.strerror}); see recipes/ for examples") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: bytes that are no UTF-8, a date such as 2024-13-45
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: a recipe is a mapping with the keys {', '.join(Recipe.model_fields)}")
    return values


def _parse(override: str) -> tuple[list[str], Any]:
    path, equals, text = override.partition("=")
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", path):
        raise UserError(f"{override!r}: an override is written key.path=value, for example questions.limit=100")
    try:
        return path.split("."), yaml.safe_load(text) if text.strip() else text
    except (yaml.YAMLError, ValueError):
        raise UserError(f"{override!r}: the value is not YAML; quote it") from None


def _set(values: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
    key, rest = _first_key(values, keys)
    while rest:
        inner = values.setdefault(key, {})
        if inner is None:
            inner = values[key] = {}
        if not isinstance(inner, dict):
            raise UserError(f"{override!r}: {key} is a value, it has no keys")
        values = inner
        key, rest = _first_key(values, rest)
    values[key] = value


def _first_key(values: dict[str, Any], keys: list[str]) -> tuple[str, list[str]]:
    """The first key of a path and the rest. A name that is there and has dots in it (`qwen2.5`) is one key."""
    for width in range(len(keys), 1, -1):
        if ".".join(keys[:width]) in values:
            return ".".join(keys[:width]), keys[width:]
    return keys[0], keys[1:]


def _choose(voters: Any, chosen: list[Any]) -> Any:
    if not isinstance(voters, dict):
        return voters  # validation says what is wrong with it
    names = [str(name) for name in chosen]
    if unknown := [name for name in names if name not in voters]:
        known = ", ".join(map(str, voters)) or "none"
        raise UserError(f"voters: the recipe has no {', '.join(unknown)}; it has {known}")
    return {name: voters[name] for name in names}


def _fault(error: Any) -> str:
    location = list(error["loc"])
    if location[:1] == ["voters"] and location[2:3] and location[2] in _METHODS:
        del location[2]  # which of the voters' kinds it is: no key of the recipe
    place = ".".join(str(part) for part in location if part != "[key]")
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return f"{place}: there is no such key"
    if error["type"] == "missing":
        return f"{place}: is missing"
    if error["type"] == "union_tag_invalid":
        return f"{place}.method: there is no {error['ctx']['tag']!r}; methods: {', '.join(_METHODS)}"
    shown = "" if error["type"] == "value_error" else f" (it is {str(error['input'])[:80]!r})"
    return f"{place}: {message}{shown}" if place else message
