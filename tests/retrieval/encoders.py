"""Small embedders for tests: one of words, one whose vectors a test writes down."""

import hashlib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from codemmlu.retrieval.encoder import Embedder, Encoder, Vectors

DIMENSIONS = 32
HASHED = Embedder("hashed", None, "hashed-1", batch_size=32, device="cpu", cache="/nowhere")
# A text with this word in it gets a vector that is not finite.
BROKEN = "brokenword"


class HashingEncoder:
    """Counts words in 32 places: texts with words in common are near each other, equal ones have a cosine of 1."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See Encoder."""
        return np.stack([_hashed(text) for text in texts])


class Placed:
    """Vectors written down, by text. A text that is not there lies far from all of them."""

    def __init__(self, places: Mapping[str, Sequence[float]]) -> None:
        self._places = places
        self._dimensions = 1 + max(map(len, places.values()))

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See Encoder. Made unit vectors."""
        vectors = np.zeros((len(texts), self._dimensions), dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            place = self._places.get(text)
            if place is None:
                vector[-1] = 1
            else:
                vector[: len(place)] = np.array(place) / np.linalg.norm(place)
        return vectors


def opens(embedder: Embedder) -> Encoder:
    """What stands in for `open_encoder`."""
    return HashingEncoder()


def _hashed(text: str) -> Vectors:
    vector = np.zeros(DIMENSIONS, dtype=np.float32)
    words = re.findall(r"\w+", text.lower())
    if BROKEN in words:
        return vector * np.nan
    for word in words or [""]:
        vector[hashlib.sha256(word.encode()).digest()[0] % DIMENSIONS] += 1
    normed: Vectors = vector / np.linalg.norm(vector)
    return normed
