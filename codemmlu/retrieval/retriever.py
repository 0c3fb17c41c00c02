"""The library: an opened index with its examples and its embedder, as an actor holds it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from codemmlu.dataset.dedup import content_key
from codemmlu.dataset.examples import FIT
from codemmlu.recipe import ExampleSettings
from codemmlu.retrieval import answer_transfer
from codemmlu.retrieval.embedder import Encoder
from codemmlu.retrieval.index_store import EXAMPLE, TransferWeights
from codemmlu.retrieval.selection import Candidate, SelectionPolicy, diverse, filter_candidates, ranked
from codemmlu.retrieval.texts import text_of
from codemmlu.schema import QUESTION, Question, question_from

Vectors = npt.NDArray[np.float32]

# Candidates that are fetched beyond those wanted, for those that a question may not see.
_SPARE = 32
# From so many on no more are looked at: where thousands of copies are nearest, what is behind them is not near.
_FARTHEST = 5_000


@dataclass(frozen=True)
class LoadedShard:
    """A shard's FAISS index and its examples; `buffer` is what both lie in, and is kept alive with them."""

    index: Any
    examples: pa.Table
    buffer: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Neighbours:
    """What the library has near one question.

    solved: nearest first, at most as many as were wanted
    nearest, verbatim: of all examples but the question itself, shown or not (None: there is no other)
    """

    question: Question
    vector: Vectors
    solved: tuple[answer_transfer.RetrievedExample, ...]
    nearest: float | None
    verbatim: bool


class Retriever:
    """Finds the examples nearest to questions. One call at a time."""

    def __init__(
        self,
        shards: Sequence[LoadedShard],
        dimensions: int,
        weights: TransferWeights | None,
        encoder: Encoder | None,
        settings: ExampleSettings,
        rule: SelectionPolicy,
    ) -> None:
        self._shards, self._dimensions, self._weights, self._encoder = shards, dimensions, weights, encoder
        self._settings, self._rule = settings, rule
        self._starts = np.cumsum([0, *(len(shard.examples) for shard in shards)])

    def retrieve(self, questions: Sequence[Question], most: int) -> list[Neighbours]:
        """At most `most` solved neighbours of each question. Raises ValueError where a vector is not finite."""
        queries = self._encode([text_of(question, self._settings) for question in questions])
        return self.near(questions, queries, most)

    def near(self, questions: Sequence[Question], queries: Vectors, most: int) -> list[Neighbours]:
        """As `look_up`, where the questions' vectors (n_questions, dimensions) are known."""
        found: dict[int, Neighbours] = {}
        waiting, fetched, there = list(range(len(questions))), 2 * most + _SPARE, int(self._starts[-1])
        while waiting:
            candidates = self._candidates(queries[waiting], fetched)
            for place, near in zip(waiting, candidates, strict=True):
                found[place] = self._neighbours(questions[place], queries[place], near, most)
            # Of one with hundreds of copies that it may not see all that came may be such, and more are near enough.
            waiting = [
                place
                for place, near in zip(waiting, candidates, strict=True)
                if len(found[place].solved) < most
                and len(near) == fetched < min(there, _FARTHEST)
                and near[-1].similarity >= self._rule.min_similarity
            ]
            fetched = min(4 * fetched, there)
        return [found[place] for place in range(len(questions))]

    def transferred(self, neighbours: Sequence[Neighbours]) -> list[npt.NDArray[np.float64]]:
        """Log-probabilities over the choices of each question, by what its neighbours say."""
        assert self._weights is not None, "fitted before it is asked"
        texts = [choice for one in neighbours for choice in one.question.choices]
        encoded = self._encode(texts)
        ends = np.cumsum([len(one.question.choices) for one in neighbours])[:-1]
        return [
            answer_transfer.log_probabilities(
                answer_transfer.features(one.question, one.vector, own, one.solved), self._weights
            )
            for one, own in zip(neighbours, np.split(encoded, ends), strict=True)
        ]

    def _encode(self, texts: Sequence[str]) -> Vectors:
        """Equal texts are embedded once: choices such as `True` come in every second question."""
        assert self._encoder is not None, "opened without an embedder"
        distinct = list(dict.fromkeys(texts))
        encoded = self._encoder.encode(distinct)
        if not np.isfinite(encoded).all():
            bad = distinct[int(np.flatnonzero(~np.isfinite(encoded).all(axis=1))[0])]
            raise ValueError(f"the embedder gave a vector that is not finite for {bad[:80]!r}")
        if encoded.shape[1] != self._dimensions:
            raise ValueError(f"the embedder gave {encoded.shape[1]} dimensions, the index has {self._dimensions}")
        place = {text: row for row, text in enumerate(distinct)}
        found: Vectors = encoded[[place[text] for text in texts]]
        return found

    def _candidates(self, queries: Vectors, most: int) -> list[list[Candidate]]:
        """Of every shard its nearest, and of those the nearest."""
        from codemmlu.retrieval import faiss_index  # FAISS: only who searches loads it

        found: list[list[Candidate]] = [[] for _ in queries]
        for shard, start in zip(self._shards, self._starts, strict=False):
            similarities, rows = faiss_index.search(shard.index, queries, min(most, len(shard.examples)))
            names, twins = shard.examples["task_id"], shard.examples["twin"]
            for place, row in np.argwhere(rows >= 0):
                at = int(rows[place, row])
                similarity = float(similarities[place, row])
                candidate = Candidate(int(start) + at, similarity, names[at].as_py(), twins[at].as_py())
                found[place].append(candidate)
        return [ranked(candidates)[:most] for candidates in found]

    def _neighbours(self, question: Question, query: Vectors, candidates: list[Candidate], most: int) -> Neighbours:
        twin = content_key(question)
        # What is asked to fit on is an example itself, and sees what it would if it were none: not its twins either.
        fit = question.task_id.startswith(FIT)
        own = question.task_id.removeprefix(FIT) if fit else question.task_id
        others = [one for one in candidates if one.task_id != own and not (fit and one.twin == twin)]
        seen = filter_candidates(self._rule, own, twin, others)
        if self._rule.diversity and seen:
            stored = np.concatenate([unpack(self._value(c.row, "vector"), self._dimensions) for c in seen])
            seen = diverse(seen, stored, self._rule.diversity, most)
        return Neighbours(
            question,
            query,
            tuple(self._solved(candidate) for candidate in seen[:most]),
            others[0].similarity if others else None,
            any(candidate.twin == twin for candidate in others),
        )

    def _solved(self, candidate: Candidate) -> answer_transfer.RetrievedExample:
        shard, row = self._place(candidate.row)
        (fields,) = self._shards[shard].examples.slice(row, 1).select(QUESTION.names).to_pylist()
        choice_vectors = unpack(self._value(candidate.row, "choice_vectors"), self._dimensions)
        return answer_transfer.RetrievedExample(question_from(fields), candidate.similarity, choice_vectors)

    def _value(self, row: int, column: str) -> bytes:
        shard, at = self._place(row)
        value: bytes = self._shards[shard].examples[column][at].as_py()
        return value

    def _place(self, row: int) -> tuple[int, int]:
        shard = int(np.searchsorted(self._starts, row, side="right")) - 1
        return shard, row - int(self._starts[shard])


def pack(question: Question, vector: Vectors, choice_vectors: Vectors) -> dict[str, Any]:
    """An example's row: see EXAMPLE."""
    values = {name: getattr(question, name) for name in QUESTION.names}
    stored = {
        "twin": content_key(question),
        "vector": vector.astype(np.float16).tobytes(),
        "choice_vectors": choice_vectors.astype(np.float16).tobytes(),
    }
    assert [*values, *stored] == EXAMPLE.names
    return values | stored


def unpack(packed: bytes, dimensions: int) -> Vectors:
    """Stored vectors, shape (n, dimensions)."""
    return np.frombuffer(packed, dtype=np.float16).reshape(-1, dimensions).astype(np.float32)
