"""The hashing embedder, which counts words, so that retrieval runs in seconds without a model.

    examples: {embedder: {source: hashing}}

Texts that share words are near each other; synonyms are not. The embedder shows how a recipe works, not how well
retrieval with a model does.
"""

import hashlib
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

HASHING = "hashing"
DIMENSIONS = 256
# To be changed with any change of the vectors: an index of another fingerprint is built again.
FINGERPRINT = f"{HASHING}/1"


class HashingEncoder:
    """An encoder that counts the words of a text, in lower case, each at the dimension of the word's hash."""

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return vectors as an Encoder does; texts of the same words have the same vector."""
        return np.stack([_vector(text) for text in texts])


def _vector(text: str) -> npt.NDArray[np.float32]:
    vector = np.zeros(DIMENSIONS, dtype=np.float32)
    # A text without words counts as the empty word, since a zero vector cannot be normalised.
    for word in re.findall(r"\w+", text.lower()) or [""]:
        vector[int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big") % DIMENSIONS] += 1
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)
