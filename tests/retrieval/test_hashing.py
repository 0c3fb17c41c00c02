"""The hashing embedder: a source of the recipe that needs no model."""

import numpy as np
import pytest

from codemmlu.recipe import EmbedderSettings
from codemmlu.retrieval.embedder import Encoder, find, open_encoder
from codemmlu.retrieval.hashing import DIMENSIONS


@pytest.fixture
def encoder() -> Encoder:
    """The encoder that a recipe with `source: hashing` gets, without a cache to read a model from."""
    return open_encoder(find(EmbedderSettings(source="hashing"), "/nowhere"))


def test_texts_are_near_each_other_by_the_words_they_share(encoder: Encoder) -> None:
    asked, same, half, none = encoder.encode(["sort a list", "A list:  SORT!", "sort the tree", "open files"])
    assert asked @ same == pytest.approx(1)
    assert asked @ half == pytest.approx(1 / 3)
    assert asked @ none == 0


def test_hashed_vectors_have_length_one_whatever_the_text(encoder: Encoder) -> None:
    vectors = encoder.encode(["", "!?", "one", "one one two", "é 😀 naïve"])
    assert vectors.shape == (5, DIMENSIONS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)


def test_hashed_vectors_stay_what_they_are(encoder: Encoder) -> None:
    """An index outlives the process that made it. Whoever changes a vector changes the fingerprint, too."""
    (vector,) = encoder.encode(["loop over over lists"])
    places = {int(place): round(float(vector[place]), 4) for place in np.flatnonzero(vector)}
    assert places == {126: 0.8165, 164: 0.4082, 247: 0.4082}
    assert find(EmbedderSettings(source="hashing"), "/nowhere").fingerprint == "hashing/1"
