"""The hashing embedder: an embedder source that counts words, so that retrieval runs in seconds without a model.

    examples: {embedder: {source: hashing}}

Texts that share words are near each other; synonyms are not. It shows how a recipe works, not how well a model does.
"""

import hashlib
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

HASHING = "hashing"
DIMENSIONS = 256
# Changes with whatever changes a vector: an index made with another one is made anew.
FINGERPRINT = f"{HASHING}/1"


class HashingEncoder:
    """Count the words of a text, in lower case, each at the dimension that its hash names."""

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """See Encoder. Texts of the same words have the same vector."""
        return np.stack([_vector(text) for text in texts])


def _vector(text: str) -> npt.NDArray[np.float32]:
    vector = np.zeros(DIMENSIONS, dtype=np.float32)
    # A text without a word is one of the empty word: its vector needs a length, too.
    for word in re.findall(r"\w+", text.lower()) or [""]:
        vector[int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big") % DIMENSIONS] += 1
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)
