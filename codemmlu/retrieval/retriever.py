"""The retriever: an opened index with its examples and its embedder, as an actor holds it."""

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
from codemmlu.retrieval.answer_transfer import Neighbours
from codemmlu.retrieval.embedder import Encoder, text_of
from codemmlu.retrieval.index_store import EXAMPLE, TransferWeights
from codemmlu.retrieval.selection import Candidate, SelectionPolicy, diverse, filter_candidates, ranked
from codemmlu.schema import QUESTION, Question, question_from

Vectors = npt.NDArray[np.float32]

# Candidates that are fetched beyond the wanted number, in place of those that a question may not see.
_SPARE = 32
# The number of candidates from which on the search is not widened: examples behind thousands of nearer copies are far.
_FARTHEST = 5_000


@dataclass(frozen=True)
class LoadedShard:
    """A shard in memory.

    Attributes:
        index: The FAISS index.
        examples: The examples by row, see EXAMPLE; without the column `vector` where no diversity is wanted.
        buffer: The memory that the index points into, kept alive with it.
    """

    index: Any
    examples: pa.Table
    buffer: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class LoadedIndex:
    """An index in memory.

    Attributes:
        shards: The shards.
        dimensions: The dimensions of a vector.
        weights: The weights of the method `retrieve`; None where no call transfers answers.
    """

    shards: Sequence[LoadedShard]
    dimensions: int
    weights: TransferWeights | None = None


class Retriever:
    """A search for the examples nearest to questions, for one call at a time."""

    def __init__(
        self, index: LoadedIndex, encoder: Encoder | None, settings: ExampleSettings, policy: SelectionPolicy
    ) -> None:
        """Keep an opened index.

        Args:
            index: The index.
            encoder: Embeds questions; None where no call embeds any.
            settings: The recipe's section `examples`.
            policy: The examples that a question may see.
        """
        self._shards, self._dimensions, self._weights = index.shards, index.dimensions, index.weights
        self._encoder, self._settings, self._policy = encoder, settings, policy
        self._starts = np.cumsum([0, *(len(shard.examples) for shard in self._shards)])

    def retrieve(self, questions: Sequence[Question], most: int) -> list[Neighbours]:
        """Return at most `most` neighbours of each question; ValueError where a vector is not finite."""
        queries = self._encode([text_of(question, self._settings) for question in questions])
        return self.near(questions, queries, most)

    def near(self, questions: Sequence[Question], queries: Vectors, most: int) -> list[Neighbours]:
        """Return neighbours as `retrieve` does, by the questions' vectors, shape (n_questions, dimensions)."""
        neighbours: dict[int, Neighbours] = {}
        waiting, fetched, count = list(range(len(questions))), 2 * most + _SPARE, int(self._starts[-1])
        while waiting:
            candidates = self._candidates(queries[waiting], fetched)
            for number, near in zip(waiting, candidates, strict=True):
                neighbours[number] = self._neighbours(questions[number], queries[number], near, most)
            # A question may have hundreds of copies that it may not see. Where they fill all that was fetched, further
            # candidates may still be near enough.
            waiting = [
                number
                for number, near in zip(waiting, candidates, strict=True)
                if len(neighbours[number].solved) < most
                and len(near) == fetched < min(count, _FARTHEST)
                and near[-1].similarity >= self._policy.min_similarity
            ]
            fetched = min(4 * fetched, count)
        return [neighbours[number] for number in range(len(questions))]

    def transferred(self, neighbours: Sequence[Neighbours]) -> list[npt.NDArray[np.float64]]:
        """Return log-probabilities over the choices of each question, as its neighbours predict them."""
        assert self._weights is not None, "fitted before it is asked"
        texts = [choice for near in neighbours for choice in near.question.choices]
        encoded = self._encode(texts)
        ends = np.cumsum([len(near.question.choices) for near in neighbours])[:-1]
        return [
            answer_transfer.log_probabilities(
                answer_transfer.features(near.question, near.vector, choice_vectors, near.solved), self._weights
            )
            for near, choice_vectors in zip(neighbours, np.split(encoded, ends), strict=True)
        ]

    def _encode(self, texts: Sequence[str]) -> Vectors:
        """Embed texts, equal ones once: choices such as `True` come in every second question."""
        assert self._encoder is not None, "opened without an embedder"
        distinct = list(dict.fromkeys(texts))
        encoded = self._encoder.encode(distinct)
        if not np.isfinite(encoded).all():
            bad = distinct[int(np.flatnonzero(~np.isfinite(encoded).all(axis=1))[0])]
            raise ValueError(f"the embedder gave a vector that is not finite for {bad[:80]!r}")
        if encoded.shape[1] != self._dimensions:
            raise ValueError(f"the embedder gave {encoded.shape[1]} dimensions, the index has {self._dimensions}")
        row_of = {text: row for row, text in enumerate(distinct)}
        vectors: Vectors = encoded[[row_of[text] for text in texts]]
        return vectors

    def _candidates(self, queries: Vectors, most: int) -> list[list[Candidate]]:
        """Return the nearest candidates of each query over all shards, nearest first."""
        from codemmlu.retrieval import faiss_index  # only processes that search load FAISS

        nearest: list[list[Candidate]] = [[] for _ in queries]
        for shard, start in zip(self._shards, self._starts, strict=False):
            similarities, rows = faiss_index.search(shard.index, queries, min(most, len(shard.examples)))
            task_ids, keys = shard.examples["task_id"], shard.examples["twin"]
            for query, rank in np.argwhere(rows >= 0):
                row = int(rows[query, rank])
                similarity = float(similarities[query, rank])
                candidate = Candidate(int(start) + row, similarity, task_ids[row].as_py(), keys[row].as_py())
                nearest[query].append(candidate)
        return [ranked(candidates)[:most] for candidates in nearest]

    def _neighbours(self, question: Question, query: Vectors, candidates: list[Candidate], most: int) -> Neighbours:
        """Select the neighbours of one question from the nearest candidates."""
        twin = content_key(question)
        # A question that something is fitted on is an example itself. It has to see what it would see if it were not
        # among the examples, so that it does not see examples of the same text either.
        fit = question.task_id.startswith(FIT)
        own = question.task_id.removeprefix(FIT) if fit else question.task_id
        others = [one for one in candidates if one.task_id != own and not (fit and one.twin == twin)]
        seen = filter_candidates(self._policy, own, twin, others)
        if self._policy.diversity and seen:
            stored = np.concatenate([unpack(self._value(c.row, "vector"), self._dimensions) for c in seen])
            seen = diverse(seen, stored, self._policy.diversity, most)
        return Neighbours(
            question,
            query,
            tuple(self._retrieved(candidate) for candidate in seen[:most]),
            others[0].similarity if others else None,
            any(candidate.twin == twin for candidate in others),
        )

    def _retrieved(self, candidate: Candidate) -> answer_transfer.RetrievedExample:
        shard, row = self._locate(candidate.row)
        (fields,) = self._shards[shard].examples.slice(row, 1).select(QUESTION.names).to_pylist()
        choice_vectors = unpack(self._value(candidate.row, "choice_vectors"), self._dimensions)
        return answer_transfer.RetrievedExample(question_from(fields), candidate.similarity, choice_vectors)

    def _value(self, row: int, column: str) -> bytes:
        shard, row_in_shard = self._locate(row)
        value: bytes = self._shards[shard].examples[column][row_in_shard].as_py()
        return value

    def _locate(self, row: int) -> tuple[int, int]:
        """Return the shard of a row of the index, and the row within that shard."""
        shard = int(np.searchsorted(self._starts, row, side="right")) - 1
        return shard, row - int(self._starts[shard])


def pack(question: Question, vector: Vectors, choice_vectors: Vectors) -> dict[str, object]:
    """Return the row that an index stores for an example, see EXAMPLE."""
    values = {name: getattr(question, name) for name in QUESTION.names}
    stored = {
        "twin": content_key(question),
        "vector": vector.astype(np.float16).tobytes(),
        "choice_vectors": choice_vectors.astype(np.float16).tobytes(),
    }
    assert [*values, *stored] == EXAMPLE.names
    return values | stored


def unpack(packed: bytes, dimensions: int) -> Vectors:
    """Return stored vectors as float32, shape (n, dimensions)."""
    return np.frombuffer(packed, dtype=np.float16).reshape(-1, dimensions).astype(np.float32)
