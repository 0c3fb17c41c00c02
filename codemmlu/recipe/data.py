"""The sections `questions` and `examples`: where rows are, and how they are read."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from codemmlu.recipe.base import Settings


class _SourceSettings(Settings):
    """Where rows are and how they are read. See `codemmlu/dataset/cleaner.py` for the cleaning rules."""

    limit: Annotated[int, Field(ge=1)] | None = None  # the first n accepted rows, in file order
    subjects: tuple[str, ...] | None = None  # None: all
    columns: dict[Literal["task_id", "question", "choices", "answer", "subject"], str] = Field(
        default_factory=dict
    )  # our name: theirs
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


class HoldoutSettings(Settings):
    """`n` labelled questions, chosen by a seeded hash, are asked; all others of the same source are examples."""

    n: Annotated[int, Field(ge=1)]
    seed: int = 0


class QuestionSettings(_SourceSettings):
    """The questions that are asked."""

    source: str = "sample"  # sample | path | glob | s3://... | gs://... | OWNER/NAME on the Hub
    holdout: HoldoutSettings | None = None  # where examples.source is the same: which of its rows are asked


class EmbedderSettings(Settings):
    """The sentence-transformers model that turns texts into vectors."""

    # embedded | OWNER/NAME on the Hub | directory | hashing: words are counted, which needs no model and no seconds
    source: str = "embedded"
    revision: str | None = None  # Hub only
    batch_size: Annotated[int, Field(ge=1)] = 32  # texts in one forward pass
    # Of what makes the index, and of workers without an engine; beside an engine questions are embedded on the CPU.
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
