"""Placement, without a cluster and without vLLM: hardware and recipe in, engines and arguments out."""

from typing import Any

import pytest

from codemmlu.engine.model_source import pinned
from codemmlu.engine.placement import placement
from codemmlu.engine.placement.gpus import GPUS, Node, Resources
from codemmlu.engine.placement.memory import GIB
from codemmlu.engine.placement.messages import too_old
from codemmlu.engine.placement.model_facts import ModelFacts
from codemmlu.engine.placement.placement import (
    answer_settings,
    block_size,
    place,
    place_without_engine,
    refuse_idle_gpus,
)
from codemmlu.errors import UserError
from codemmlu.recipe import ModelSettings

CPU = Resources(cpus=2)
T4, T4X2, H100X8 = (Resources((Node(count, kind),)) for count, kind in ((1, "T4"), (2, "T4"), (8, "H100")))


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vLLM with three engine arguments."""
    arguments = frozenset({"block_size", "enforce_eager", "seed"})
    monkeypatch.setattr(placement, "engine_arguments", lambda: arguments)


def model(**fields: Any) -> ModelSettings:
    return ModelSettings(source="embedded", **fields)


def test_on_a_cpu_one_engine_has_the_memory_of_the_recipe() -> None:
    placed = place("m", model(cpu_kv_cache_gib=3), Resources(cpus=2))
    assert (placed.replicas, placed.gpus_each) == (1, 0)
    assert placed.arguments["kv_cache_memory_bytes"] == 3 * GIB
    assert placed.arguments["block_size"] == 32
    assert placed.arguments["enforce_eager"] is True
    assert "gpu_memory_utilization" not in placed.arguments
    assert str(placed) == "1 engine on the CPU"


@pytest.mark.parametrize(
    ("resources", "fields", "replicas", "gpus_each", "backend"),
    [
        (T4, {}, 1, 1, "uni"),
        (T4X2, {}, 2, 1, "uni"),
        (T4X2, {"tensor_parallel": 2}, 1, 2, "mp"),
        (T4X2, {"replicas": 1}, 1, 1, "uni"),
        (H100X8, {}, 8, 1, "uni"),
        (H100X8, {"tensor_parallel": 2}, 4, 2, "mp"),
        (H100X8, {"tensor_parallel": 2, "replicas": 3}, 3, 2, "mp"),
        (H100X8, {"tensor_parallel": 8}, 1, 8, "mp"),
        (H100X8, {"tensor_parallel": 3}, 2, 3, "mp"),
    ],
)
def test_as_many_engines_as_the_gpus_hold(
    resources: Resources, fields: dict[str, Any], replicas: int, gpus_each: int, backend: str
) -> None:
    placed = place("m", model(**fields), resources)
    assert (placed.replicas, placed.gpus_each) == (replicas, gpus_each)
    assert placed.replicas * placed.gpus_each <= resources.gpus
    assert placed.arguments["tensor_parallel_size"] == gpus_each
    assert placed.arguments["distributed_executor_backend"] == backend
    assert "kv_cache_memory_bytes" not in placed.arguments
    assert f"{replicas} engine{'s' if replicas > 1 else ''} of {gpus_each} GPU" == str(placed)


@pytest.mark.parametrize(
    ("resources", "fields", "says"),
    [
        (T4, {"tensor_parallel": 2}, "1 x 2 GPUs are asked for, an engine's on one node; there are 1"),
        (T4X2, {"tensor_parallel": 2, "replicas": 2}, "2 x 2 GPUs are asked for, an engine's on one node; there are 2"),
        (H100X8, {"replicas": 9}, "9 x 1 GPUs are asked for, an engine's on one node; there are 8"),
    ],
)
def test_too_few_gpus_are_the_persons_mistake(resources: Resources, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as error:
        place("qwen", model(**fields), resources)
    assert str(error.value) == f"models.qwen: {says}; lower models.qwen.tensor_parallel or models.qwen.replicas"


@pytest.mark.parametrize("resources", [Resources(), T4X2])
def test_what_the_recipe_says_reaches_vllm(resources: Resources) -> None:
    said = {"dtype": "float16", "quantization": "awq", "max_model_len": 4096, "max_num_seqs": 32}
    placed = place("m", model(trust_remote_code=True, revision="main", **said), resources)
    assert {**said, "trust_remote_code": True, "revision": "main"}.items() <= placed.arguments.items()
    assert placed.arguments["load_format"] == "safetensors"
    assert placed.arguments["enable_prefix_caching"] is True


def test_whole_experts_on_each_gpu_and_never_on_a_cpu() -> None:
    settings = model(expert_parallel=True, tensor_parallel=2)
    assert place("m", settings, T4X2).arguments["enable_expert_parallel"] is True
    with pytest.raises(UserError, match=r"^models\.m\.expert_parallel: .* cannot do that on a CPU; leave it out$"):
        place("m", settings, Resources())


def test_without_a_length_the_model_gets_its_own() -> None:
    assert place("m", model(), T4).arguments["max_model_len"] == -1


def test_enough_questions_are_in_flight_to_keep_the_batch_full() -> None:
    settings = model(max_num_seqs=100)
    assert place("m", settings, T4).in_flight >= 100


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("resources", [Resources(), T4X2])
def test_engine_arguments_go_through_and_override_ours(resources: Resources) -> None:
    placed = place("m", model(engine={"seed": 7, "block_size": 64, "enforce_eager": False}), resources)
    assert {"seed": 7, "block_size": 64, "enforce_eager": False}.items() <= placed.arguments.items()


@pytest.mark.usefixtures("known")
def test_an_engine_argument_that_vllm_does_not_have_is_refused() -> None:
    with pytest.raises(UserError, match=r"^models\.m\.engine\.sede: vLLM has no such engine argument$"):
        place("m", model(engine={"seed": 7, "sede": 7}), T4)


def test_without_vllm_here_every_engine_argument_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "engine_arguments", lambda: None)
    assert place("m", model(engine={"anything": 1}), T4).arguments["anything"] == 1


@pytest.mark.skipif(placement.engine_arguments() is None, reason="vLLM is not installed")
@pytest.mark.parametrize("resources", [Resources(), T4X2])
def test_everything_we_tell_vllm_is_an_argument_of_its(resources: Resources) -> None:
    known = placement.engine_arguments()
    assert known is not None
    assert set(place("m", model(), resources).arguments) <= known
    assert known >= placement._SPEED_ONLY


def test_settings_that_change_only_speed_are_not_in_the_key() -> None:
    speed: dict[str, Any] = {
        "replicas": 2,
        "tensor_parallel": 2,
        "max_num_seqs": 8,
        "gpu_memory_utilization": 0.5,
        "cpu_kv_cache_gib": 8,
        "max_model_len": 512,
        "engine": {"block_size": 64, "enforce_eager": True, "max_num_batched_tokens": 99},
    }
    assert answer_settings(model(**speed)) == answer_settings(model())


@pytest.mark.parametrize(
    "fields", [{"dtype": "float16"}, {"quantization": "awq"}, {"engine": {"seed": 1}}, {"engine": {"new": 1}}]
)
def test_settings_that_may_change_the_answer_are_part_of_the_key(fields: dict[str, Any]) -> None:
    assert answer_settings(model(**fields)) != answer_settings(model())


@pytest.mark.parametrize(
    ("questions", "resources", "size"),
    [(0, CPU, 8), (144, CPU, 9), (3_483, CPU, 16), (10**5, CPU, 16), (1_253, H100X8, 9), (10**6, H100X8, 128)],
)
def test_a_block_is_small_in_small_runs_and_bounded_in_large(questions: int, resources: Resources, size: int) -> None:
    placed = place("m", model(), resources)
    assert block_size(questions, placed) == size
    assert size * 4 <= max(32, placed.in_flight), "several blocks are in flight for every engine"


def test_the_largest_runs_are_made_of_so_many_blocks_and_no_more() -> None:
    for resources in (CPU, H100X8):
        size = block_size(10**7, place("m", model(), resources))
        assert 10**7 // size <= placement.MOST_BLOCKS


def test_an_engine_stays_on_one_node() -> None:
    nodes = Resources((Node(3, "L4"), Node(3, "L4")))
    assert place("m", model(tensor_parallel=2), nodes).replicas == 2
    with pytest.raises(UserError, match=r"1 x 4 GPUs are asked for, an engine's on one node; there are 3 \+ 3"):
        place("m", model(tensor_parallel=4), nodes)


def test_an_engine_built_for_gpus_does_not_look_for_them_in_vain(known: None, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_idle_gpus(CPU)  # vLLM's CPU build
    monkeypatch.setattr(placement, "built_for_cpu", lambda: False)
    refuse_idle_gpus(T4)
    with pytest.raises(UserError, match=r"gpus: the cluster has no GPU, .* such as gpus=4x1xL4"):
        refuse_idle_gpus(CPU)


def test_key_and_value_heads_have_to_divide_too() -> None:
    config = {
        **{"model_type": "phi3", "hidden_size": 5120, "intermediate_size": 17920, "num_hidden_layers": 40},
        **{"num_attention_heads": 40, "num_key_value_heads": 10, "vocab_size": 32064, "max_position_embeddings": 4096},
    }
    placed = place("m", model(), Resources((Node(4, "L4"),)), ModelFacts(config, 28_000_000_000))
    assert placed.arguments["tensor_parallel_size"] == 2  # not 4: ten heads do not share out among four


def test_what_the_refusal_advises_is_what_helps() -> None:
    known = ModelFacts(pinned()["Qwen/Qwen2.5-7B-Instruct"]["config"], 15_231_233_024)
    with pytest.raises(UserError, match=r"models\.m\.max_num_seqs=\d+ would fit"):
        place("m", model(max_num_seqs=9999), Resources((Node(1, "L4"),)), known)


def test_workers_that_embed_on_gpus_begin_with_one() -> None:
    """A cluster that grows would start every node for them at once."""
    placed = place_without_engine(Resources((Node(1, "L4"),) * 4), "cuda")
    assert (placed.replicas, placed.at_most, placed.actor_gpus) == (1, 4, 1)
    assert place_without_engine(Resources(cpus=8), "cpu").actor_gpus == 0
    with pytest.raises(UserError, match=r"examples\.embedder\.device: cuda"):
        place_without_engine(Resources(cpus=8), "cuda")


MIXTURE = ModelFacts({"model_type": "qwen3_moe", "num_attention_heads": 32, "num_experts": 128}, int(61e9))


@pytest.mark.parametrize(
    ("node", "engines"),
    [
        (Node(4, "L4"), "1 engine of 4 GPU"),
        (Node(8, "L4"), "2 engines of 4 GPU"),
        (Node(2, "H100"), "2 engines of 1 GPU"),
        (Node(2, None), "2 engines of 1 GPU"),
    ],
)
def test_of_an_unknown_decoder_the_weights_find_room_at_least(known: None, node: Node, engines: str) -> None:
    assert MIXTURE.shape is None
    assert str(place("m", model(), Resources((node,)), MIXTURE)) == engines


def test_an_unknown_decoder_without_room_is_refused(known: None) -> None:
    with pytest.raises(UserError, match=r"weights 28\.4, .* and may take 13\.1; 8 x T4 would hold it"):
        place("m", model(), T4X2, MIXTURE)


@pytest.mark.parametrize(
    ("kind", "model_type", "dtype", "says"),
    [
        ("T4", "gemma2", "auto", "gemma2 does not compute in float16, and T4 does not in bfloat16; set it to float32"),
        ("T4", "glm4", "float16", "glm4 does not compute in float16"),
        ("V100", "llama", "auto", "V100 has CUDA capability 7.0, and vLLM's wheels have kernels from 7.5 on"),
        ("T4", "gemma2", "float32", None),
        ("L4", "gemma2", "auto", None),
        ("T4", "llama", "auto", None),
    ],
)
def test_a_gpu_that_cannot_run_a_kind_of_model_is_refused(
    kind: str, model_type: str, dtype: Any, says: str | None
) -> None:
    facts = ModelFacts({"model_type": model_type}, 2**30)
    error = too_old("models.m", ModelSettings(source="x", dtype=dtype), facts, kind, GPUS[kind])
    assert (error is None) if says is None else says in str(error)
