"""Libraries for tests, made in this process without Ray: FAISS, stored examples and look-up are the real ones."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from codemmlu.recipe import ExampleSettings
from codemmlu.retrieval import vectors
from codemmlu.retrieval.encoder import Encoder, Vectors
from codemmlu.retrieval.library import Library, OpenShard, pack
from codemmlu.retrieval.neighbours import Rule
from codemmlu.retrieval.store import EXAMPLE, Weights
from codemmlu.retrieval.texts import text_of
from codemmlu.retrieval.transfer import FEATURES
from codemmlu.rows import Question
from tests.retrieval.encoders import HashingEncoder
from tests.samples import question

SETTINGS = ExampleSettings(source="examples.csv")
RULE = Rule(exclude="task_id", near_duplicates="keep", min_similarity=-1.0, diversity=0.0)
# A choice is right as far as it is like the neighbours' right ones.
LIKE_RIGHT = Weights(
    features=FEATURES,
    scales=(1.0,) * len(FEATURES),
    weights=tuple(float("right, likeness" in name) for name in FEATURES),
    fitted_on=0,
    seed=0,
    left_out="",
)


def solved(task_id: str, text: str, choices: Sequence[str] = ("yes", "no"), answer: str = "A") -> Question:
    """An example."""
    return question(task_id, question=text, choices=tuple(choices), answer=answer)


def packed(examples: Sequence[Question], settings: ExampleSettings, encoder: Encoder) -> tuple[Vectors, pa.Table]:
    """The examples' vectors, at the precision at which they are stored, and their rows as an index keeps them."""
    encoded = encoder.encode([text_of(example, settings) for example in examples])
    rows = encoded.astype(np.float16).astype(np.float32)
    table = [pack(one, row, encoder.encode(one.choices)) for one, row in zip(examples, rows, strict=True)]
    return rows, pa.Table.from_pylist(table, schema=EXAMPLE)


def library(
    examples: Sequence[Question],
    encoder: Encoder | None = None,
    settings: ExampleSettings = SETTINGS,
    shard: int = 1_000_000,
    kind: str = "exact",
    asks_with: Encoder | None = None,
    **rule: Any,
) -> Library:
    """A library of these examples in shards of at most `shard`; `rule` changes RULE.

    asks_with: what embeds the questions, where that is not what embedded the examples
    """
    encoder = encoder or HashingEncoder()
    shards = []
    for start in range(0, len(examples), shard):
        rows, table = packed(examples[start : start + shard], settings, encoder)
        buffer = np.frombuffer(vectors.build(kind, rows), dtype=np.uint8)
        shards.append(OpenShard(vectors.open_index(buffer), table, buffer))
    return Library(shards, rows.shape[1], LIKE_RIGHT, asks_with or encoder, settings, replace(RULE, **rule))
