"""Small embedders for tests: the package's own of hashed words, and one whose vectors a test writes down."""

from collections.abc import Mapping, Sequence

import numpy as np

from codemmlu.retrieval.embedder import Embedder, Vectors
from codemmlu.retrieval.hashing import FINGERPRINT, HASHING, HashingEncoder

HASHED = Embedder(HASHING, None, FINGERPRINT, batch_size=32, device="cpu", cache="/nowhere")
# A text with this word in it gets a vector that is not finite from a BreakableEncoder.
BROKEN = "brokenword"


class BreakableEncoder(HashingEncoder):
    """The hashing embedder, but for texts with BROKEN in them."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See Encoder."""
        broken = np.array([[BROKEN in text] for text in texts])
        return np.where(broken, np.float32(np.nan), super().encode(texts))


class Placed:
    """Vectors written down, by text. A text that is not there lies far from all of them."""

    def __init__(self, places: Mapping[str, Sequence[float]]) -> None:
        self._places = places
        self._dimensions = 1 + max(map(len, places.values()))

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See Encoder. The vectors are made unit vectors."""
        vectors = np.zeros((len(texts), self._dimensions), dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            place = self._places.get(text)
            if place is None:
                vector[-1] = 1
            else:
                vector[: len(place)] = np.array(place) / np.linalg.norm(place)
        return vectors
