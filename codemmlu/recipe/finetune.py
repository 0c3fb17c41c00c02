"""The section `finetune`: LoRA weights that are trained on the examples."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from codemmlu.recipe.base import Name, Settings


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
    limit: Annotated[int, Field(ge=1)] | None = None  # most examples of the train part; None: all
    synthesise: Annotated[int, Field(ge=0)] = 0  # additional generated questions, each verified by running its program
    examples: Annotated[int, Field(ge=0, le=32)] = 0  # solved examples shown before a question, as for voters
    # Share of questions without shown examples (RAFT, arXiv:2403.10131).
    withhold: Annotated[float, Field(ge=0, le=1)] = 0.2
    reorder: bool = True  # each epoch shows the choices in another order
    epochs: Annotated[int, Field(ge=1)] = 1
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
