"""Several models on one cluster: how many engines each gets, without a cluster."""

from dataclasses import replace

import pytest

from codemmlu.engine.placement.allocation import allocate
from codemmlu.engine.placement.gpus import simulated
from codemmlu.engine.placement.memory import Memory
from codemmlu.engine.placement.placement import Holds, Placement

SMALL = Memory(1.0, 0, 0, 9, 14, 10, 9000, 4096, 8)


def pool(gpus: int, most: int = 8, weights: float = 1.0, **fields: object) -> Placement:
    made = Placement(1, gpus, 64, {"tensor_parallel_size": gpus}, most, replace(SMALL, weights=weights))
    return replace(made, **fields)  # type: ignore[arg-type]


def shares(gpus: str, **pools: Placement) -> dict[str, tuple[int, int]] | None:
    found = allocate(pools, simulated(gpus))
    return None if found is None else {name: (one.replicas, one.at_most) for name, one in found.items()}


def test_two_models_share_the_gpus_of_a_node() -> None:
    assert shares("8xH100", a=pool(1), b=pool(1)) == {"a": (4, 4), "b": (4, 4)}


def test_the_heavier_model_gets_more_engines() -> None:
    assert shares("8xH100", a=pool(1, weights=15), b=pool(1, weights=1)) == {"a": (7, 7), "b": (1, 1)}


def test_wide_engines_are_placed_before_narrow_ones() -> None:
    assert shares("3x2xL4", a=pool(1), b=pool(2, weights=9)) == {"a": (2, 2), "b": (2, 2)}


@pytest.mark.parametrize(
    "pools",
    [
        {"a": pool(2), "b": pool(2)},  # two GPUs hold one of them
        {"a": pool(1, least=2), "b": pool(1)},  # what the recipe asks for, is not taken away
        {"a": pool(1)},  # alone
        {"a": pool(1), "b": pool(0)},  # on the CPU
        {"a": pool(1), "b": pool(1, spans=True)},
    ],
)
def test_without_room_for_all_they_run_one_after_another(pools: dict[str, Placement]) -> None:
    assert shares("2xT4", **pools) is None


def test_a_number_of_engines_that_the_recipe_says_is_not_passed() -> None:
    assert shares("8xH100", a=pool(1, most=2), b=pool(1)) == {"a": (2, 2), "b": (6, 6)}


def test_engines_stay_on_their_kind_of_gpu() -> None:
    assert shares("4xT4+1xH100", a=pool(1, kind="T4"), b=pool(1, kind="H100")) == {"a": (4, 4), "b": (1, 1)}
    assert shares("4xT4+1xH100", a=pool(1, kind="H100"), b=pool(1, kind="H100")) is None


def test_a_pool_without_an_engine_is_in_nobodys_way() -> None:
    retrieve = Placement(2, 0, 256, {}, holds=Holds.RETRIEVER)
    assert shares("2xT4", a=pool(1), b=pool(1), retrieve=retrieve) == {"a": (1, 1), "b": (1, 1), "retrieve": (2, 2)}


def test_pools_of_a_cluster_that_grows_begin_small() -> None:
    grows = replace(simulated("4x1xL4"), elastic=True)
    found = allocate({"a": pool(1), "b": pool(1)}, grows)
    assert found
    assert {name: (one.replicas, one.at_most) for name, one in found.items()} == {"a": (1, 2), "b": (1, 2)}
