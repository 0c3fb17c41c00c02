"""The section `finetune`: LoRA weights that are trained on the examples."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from codemmlu.recipe.base import Name, Settings

# The kinds of questions, as dataset/kind.py names them.
Kind = Literal["knowledge", "output", "fill_in_the_middle", "defect", "completion", "repair"]


class TeacherSettings(Settings):
    """Distillation: the probabilities of a voter of another run, which asked the examples, as soft labels.

    Attributes:
        run: The directory of the run, whose questions are the examples.
        voter: The voter of that run, such as a larger model with readings=cyclic.
        weight: The share of the teacher in a label; the rest is the key.
        temperature: What the teacher's log-probabilities are divided by: above 1, its labels are flatter.
    """

    run: str
    voter: Name
    weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    temperature: Annotated[float, Field(gt=0)] = 1.0


class FinetuneSettings(Settings):
    """LoRA weights for one model, trained on the train part of the examples.

    The defaults are those of the reference project. One optimizer step uses batch_size x accumulation x workers
    sequences.
    """

    model: str
    name: Name = "tuned"  # voters use the weights by `adapter: NAME`; the run keeps them in adapters/NAME
    objective: Literal["answer", "preference"] = "answer"  # preference: the right choice over the likeliest wrong one
    # Directory of a run that answered examples: the wrong choice that its model likes best is the one to reject.
    pairs_from: str | None = None
    beta: Annotated[float, Field(gt=0)] = 0.1  # preference tuning: how near to the starting model it stays
    start: str | None = None  # a directory with LoRA weights to continue from; None: new weights
    backend: Literal["auto", "unsloth", "peft"] = "auto"
    quantization: Literal["nf4", "none"] = "nf4"  # of the frozen weights in training (QLoRA, arXiv:2305.14314)
    template: Literal["codemmlu", "reference"] = "codemmlu"
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] | None = None  # of the examples; None: all
    # How often an example of a kind comes in each epoch: 2 is twice, 0.5 every other time; a kind without a weight: 1.
    kind_weights: dict[Kind, Annotated[float, Field(gt=0, le=16)]] = Field(default_factory=dict)
    # Examples whose key a compiler or the program's own output contradicts; leave_out runs their programs in a sandbox.
    contradicted: Literal["keep", "leave_out"] = "keep"
    limit: Annotated[int, Field(ge=1)] | None = None  # most examples of the train part; None: all
    synthesise: Annotated[int, Field(ge=0)] = 0  # additional generated questions, each verified by running its program
    examples: Annotated[int, Field(ge=0, le=32)] = 0  # solved examples shown before a question, as for voters
    # Share of questions without shown examples (RAFT, arXiv:2403.10131).
    withhold: Annotated[float, Field(ge=0, le=1)] = 0.2
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # the share of a label that all letters have equally
    teacher: TeacherSettings | None = None  # None: the keys alone are learnt
    reorder: bool = True  # each epoch shows the choices in another order
    epochs: Annotated[int, Field(ge=1)] = 1
    # Orders of the choices in which one step shows each of its questions; batch_size counts all of them.
    orders: Annotated[int, Field(ge=1, le=26)] = 1
    # Weight of the divergence between two orders of a question in the loss, so that one reading says what several do.
    consistency: Annotated[float, Field(ge=0)] = 0.0
    batch_size: Annotated[int, Field(ge=1)] = 8  # sequences in one forward pass of a worker
    accumulation: Annotated[int, Field(ge=1)] = 4
    workers: Annotated[int, Field(ge=1)] = 1
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_steps: Annotated[int, Field(ge=0)] = 5
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    optimizer: Literal["adamw_8bit", "adamw"] = "adamw_8bit"  # 8bit: the optimizer states of bitsandbytes
    rank: Annotated[int, Field(ge=1, le=512)] = 16
    alpha: Annotated[int, Field(ge=1)] = 16
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    gradient_checkpointing: bool = True
    packing: bool = False  # no padding, and what sequences of a step begin with alike is computed once
    frozen_layers: Annotated[int, Field(ge=0)] = (
        0  # lowest layers without weights to train, through which no gradient goes
    )
    # Memory for what the frozen layers say of a text, so that they are computed once for each text.
    activations_gib: Annotated[float, Field(ge=0)] = 0.0
    compile: bool = False  # compiles each layer with torch.compile, which takes minutes once
    max_length: Annotated[int, Field(ge=16)] = 8092  # tokens; a longer sequence is left out and counted, never cut
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 3407
    evaluations: Annotated[int, Field(ge=1)] = 2  # per epoch, on the tune part
    tune_limit: Annotated[int, Field(ge=1)] = 256  # most examples of the tune part
    patience: Annotated[int, Field(ge=1)] = 4  # evaluations without improvement after which training stops
    checkpoint_steps: Annotated[int, Field(ge=1)] = 25
    merge: bool = False  # also writes the model merged with the weights, for engines without LoRA

    @model_validator(mode="after")
    def _objective_has_what_it_needs(self) -> Self:
        if self.objective == "preference" and not self.pairs_from:
            raise ValueError("pairs_from: preference tuning takes its pairs from a run's answers; name its directory")
        if self.objective == "answer" and self.pairs_from:
            raise ValueError("pairs_from: needs objective=preference")
        if self.objective == "preference" and (self.examples or self.synthesise):
            raise ValueError("objective: preference tuning shows no examples and makes no questions; leave both at 0")
        return self

    @model_validator(mode="after")
    def _orders_are_whole(self) -> Self:
        if self.batch_size % self.orders:
            raise ValueError(f"orders: {self.orders} do not divide batch_size={self.batch_size}; make it a multiple")
        if self.consistency and self.orders < 2:
            raise ValueError("consistency: compares two orders of a question in one step; set orders to 2 or more")
        return self

    @model_validator(mode="after")
    def _preferences_have_no_labels(self) -> Self:
        of_answers = {
            "label_smoothing": self.label_smoothing > 0,
            "teacher": self.teacher is not None,
            "orders": self.orders > 1,
            "packing": self.packing,
            "activations_gib": self.activations_gib > 0,
        }
        for name, is_set in of_answers.items():
            if is_set and self.objective == "preference":
                raise ValueError(f"{name}: is for objective=answer; leave it out of preference tuning")
        return self

    @model_validator(mode="after")
    def _frozen_layers_stay_frozen(self) -> Self:
        if self.activations_gib and not self.frozen_layers:
            raise ValueError("activations_gib: keeps what frozen layers say; set frozen_layers as well")
        if self.frozen_layers and self.start:
            raise ValueError("frozen_layers: finetune.start says which layers have weights; leave one of the two out")
        if self.frozen_layers and self.gradient_checkpointing:
            raise ValueError("frozen_layers: gradient checkpointing computes gradients there; set it to false")
        return self

    @property
    def has_soft_labels(self) -> bool:
        """Return whether a label has a share for wrong letters, too."""
        return self.label_smoothing > 0 or self.teacher is not None
