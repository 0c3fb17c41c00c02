"""The sections `questions` and `examples`: the source of the rows, and how rows are read."""

import codecs
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from codemmlu.recipe.base import Name, Settings

# Codecs of Python in which no file is written.
_NO_FILES = ("punycode", "idna", "undefined", "unicode-escape", "raw-unicode-escape")
_PROBE = 'task_id,"A1"\n'


class _SourceSettings(Settings):
    """A source of rows and how it is read; `codemmlu/dataset/cleaner.py` has the cleaning rules."""

    limit: Annotated[int, Field(ge=1)] | None = None  # the first n accepted rows, in file order
    subjects: tuple[str, ...] | None = None  # None: all
    # Maps a field of a question to its column in the source, or to a list of columns.
    columns: dict[
        Literal["task_id", "question", "context", "choices", "answer", "distractors", "subject"],
        str | tuple[str, ...],
    ] = Field(default_factory=dict)
    answers: Literal["letter", "zero-based", "one-based", "text"] = "letter"
    # How a backslash in a string that writes a list is read: as Python and JSON do, or as it is written.
    escapes: Literal["python", "keep"] = "python"
    encoding: str = "utf-8-sig"
    split: str = "test"  # Hub only
    revision: str | None = None  # Hub only
    # Longer lines, fields and Parquet row groups end the job before they fill the memory.
    max_line_mib: Annotated[int, Field(ge=1)] = 32
    max_field_mib: Annotated[int, Field(ge=1)] = 16
    max_row_group_mib: Annotated[int, Field(ge=1)] = 1024

    @model_validator(mode="after")
    def _encoding_exists(self) -> Self:
        try:
            text = codecs.lookup(self.encoding).name
            is_text = _PROBE.encode(self.encoding).decode(self.encoding) == _PROBE and text not in _NO_FILES
        except (LookupError, ValueError, TypeError):
            is_text = False
        if not is_text:
            raise ValueError(f"encoding: there is no {self.encoding!r}; try utf-8-sig or cp1252") from None
        return self


class HoldoutSettings(Settings):
    """A split of one source: `n` labelled questions, by a seeded hash, are asked; all others are examples."""

    n: Annotated[int, Field(ge=1)]
    seed: int = 0


class QuestionSettings(_SourceSettings):
    """The questions that are asked."""

    source: str = "sample"  # sample | path | glob | s3://... | gs://... | OWNER/NAME on the Hub
    holdout: HoldoutSettings | None = None  # for an examples.source that is the same: the rows that are asked
    # Names of further kinds of questions, each with a pattern (RE2) that the text of such a question holds. Tables of a
    # report, and weights of a fitted vote, tell them apart; what tools look at does not depend on them.
    kinds: dict[Name, str] = Field(default_factory=dict)

    @field_validator("kinds")
    @classmethod
    def _patterns_are_valid(cls, kinds: dict[str, str]) -> dict[str, str]:
        import pyarrow as pa  # slow to import, and only patterns need it
        import pyarrow.compute as pc

        for name, pattern in kinds.items():
            try:
                pc.match_substring_regex(pa.array([""]), pattern)
            except pa.ArrowInvalid as error:
                raise ValueError(f"{name}: {str(error).splitlines()[0]}; write a pattern of RE2") from None
        return kinds


class EmbedderSettings(Settings):
    """The sentence-transformers model that turns texts into vectors."""

    # embedded | OWNER/NAME on the Hub | directory | hashing: counts words, which needs no model and hardly any time
    source: str = "embedded"
    revision: str | None = None  # Hub only
    batch_size: Annotated[int, Field(ge=1)] = 32  # texts in one forward pass
    # For building the index and for workers without an engine. Beside an engine, questions are embedded on the CPU.
    device: Annotated[str, StringConstraints(pattern=r"^(cpu|cuda)$")] = "cpu"


class ExampleSettings(_SourceSettings):
    """Solved questions: how they are indexed, and which of them are shown with a question."""

    source: str | None = None  # as questions.source; None: no examples, unless `index` names an existing index
    index: str | None = None  # the index directory or address; None: in the run directory
    embedder: EmbedderSettings = EmbedderSettings()
    text: Literal["question", "question+choices"] = "question"  # what is embedded of examples and questions
    kind: Literal["auto", "exact", "hnsw", "ivfpq"] = "auto"  # auto: by size
    shard: Annotated[int, Field(ge=1)] = 200_000  # examples in one FAISS file
    # Examples that are never shown with a question. task_id: the question itself, by its task_id. same: also an example
    # with the same text. None: same where the questions have labels, else task_id.
    exclude: Literal["same", "task_id"] | None = None
    near_duplicates: Literal["keep", "drop"] = "keep"  # drop: hides examples at a similarity >= 0.97
    min_similarity: Annotated[float, Field(ge=-1, le=1)] = -1.0  # the least cosine of an example that is shown
    diversity: Annotated[float, Field(ge=0, lt=1)] = 0.0  # maximal marginal relevance: 0 takes the nearest
    # Budget for all examples of one prompt together; an example that does not fit is left out.
    tokens: Annotated[int, Field(ge=1)] = 2000
    # The Hub's CodeMMLU has had its answers since May 2025: as examples for its own questions it is refused.
    allow_same_set: bool = False


def is_answered_set(source: str | None) -> bool:
    """Return whether a source is the copy of CodeMMLU on the Hub, whose answers are public."""
    return (source or "").casefold() == "fsoft-aic/codemmlu"
