"""Seeds of sampled replies: they follow from the recipe's seed and the prompt, and from nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from codemmlu.engine.vllm_engine import seed_of

REQUESTS = st.tuples(st.lists(st.integers(0, 2**18), min_size=1, max_size=20), st.integers(0, 2**31 - 1))


@given(REQUESTS)
def test_the_same_request_has_the_same_seed(request: tuple[list[int], int]) -> None:
    tokens, seed = request
    assert seed_of([*tokens], seed) == seed_of(tokens, seed)
    assert 0 <= seed_of(tokens, seed) < 2**32


def test_a_seed_is_the_same_in_every_process() -> None:
    """A value written down: a re-issued run samples what the first would have."""
    assert seed_of([1, 2, 3], 42) == 1_741_602_548


def test_requests_and_recipe_seeds_have_seeds_of_their_own() -> None:
    prompts = [[1], [2], [1, 2], [2, 1], [12], [1, 2, 3], [12, 3], [1, 23]]
    found = {seed_of(tokens, seed) for tokens in prompts for seed in range(50)}
    assert len(found) == len(prompts) * 50
