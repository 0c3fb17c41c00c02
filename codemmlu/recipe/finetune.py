"""The section `finetune`: weights that are trained on the examples."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from codemmlu.recipe.base import Name, Settings


class FinetuneSettings(Settings):
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
