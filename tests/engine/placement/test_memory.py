"""The memory plan against what is known: published sizes, files on disk, and what has to fit where."""

from dataclasses import replace
from typing import Any

import pytest

from codemmlu.engine.model_source import cache_folder, pinned, validate
from codemmlu.engine.placement.gpus import GPUS
from codemmlu.engine.placement.memory import (
    GIB,
    EngineLimits,
    Memory,
    ModelWeights,
    ParallelLayout,
    Shortfall,
    activation_bytes,
    active_parameters,
    cache_bytes,
    fit,
    layout_bytes,
    weights_on_each,
)
from codemmlu.engine.placement.model_facts import ModelFacts, Shape, quantization_of, shape_of

FACTS = pinned()
MIXTRAL = "casperhansen/mixtral-instruct-awq"


def known(source: str) -> ModelFacts:
    return ModelFacts(FACTS[source]["config"], FACTS[source]["bytes"])


def shape(source: str) -> Shape:
    found = known(source).shape
    assert found
    return found


@pytest.mark.parametrize("source", FACTS)
def test_every_known_models_layout_sums_to_its_files_size(source: str) -> None:
    layers, table = layout_bytes(shape(source), known(source).quantization(None))
    summed = layers + table * (1 if shape(source).tied else 2)
    # Mistral Small's files also hold an image tower of 0.9 GB.
    image = 878e6 if "Mistral-Small" in source else 0
    assert summed + image == pytest.approx(FACTS[source]["bytes"], rel=0.01)


@pytest.mark.parametrize("source", FACTS)
def test_every_known_model_has_a_full_commit_or_none(source: str) -> None:
    revision = FACTS[source]["revision"]
    assert revision is None or (len(revision) == 40 and set(revision) <= set("0123456789abcdef"))


def test_the_layout_of_the_embedded_model_sums_to_its_files() -> None:
    model = validate("embedded", None, cache_folder())
    found = shape_of(model.config)
    assert found
    assert model.weight_bytes
    layers, table = layout_bytes(found, None, found.width)
    assert layers + table * (1 if found.tied else 2) == pytest.approx(model.weight_bytes, rel=0.01)


@pytest.mark.parametrize(
    ("source", "layout", "each"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", ParallelLayout(), 57_344),  # 28 layers x 4 heads x 128 x (key, value) x 2 bytes
        ("Qwen/Qwen2.5-7B-Instruct", ParallelLayout(2), 28_672),
        ("Qwen/Qwen2.5-7B-Instruct", ParallelLayout(8), 14_336),  # 4 heads on 8 GPUs: each holds one
        ("Qwen/Qwen2.5-7B-Instruct", ParallelLayout(1, 2), 28_672),
        (MIXTRAL, ParallelLayout(2), 65_536),
        ("mistralai/Mistral-Small-3.1-24B-Instruct-2503", ParallelLayout(), 163_840),  # head_dim 128, not 5120 / 32
    ],
)
def test_the_cache_of_one_token(source: str, layout: ParallelLayout, each: int) -> None:
    assert cache_bytes(shape(source), layout) == each


def test_an_eight_bit_cache_is_half_as_large() -> None:
    assert cache_bytes(shape(MIXTRAL), ParallelLayout(2), 1) == 32_768


@pytest.mark.parametrize(
    ("config", "asked", "each"),
    [
        ({}, None, None),
        ({}, "fp8", 1.0),
        ({}, "int8_per_channel_weight_only", 1.0),
        ({"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}, None, 0.5 + 2.5 / 128),
        ({"quantization_config": {"quant_method": "gptq", "bits": 3, "group_size": -1}}, None, 0.375),
        ({"quantization_config": {"quant_method": "fp8"}}, None, 1.0),
        ({"quantization_config": {"quant_method": "awq", "w_bit": 4, "q_group_size": 64}}, None, 0.5 + 2.5 / 64),
    ],
)
def test_bytes_of_one_number_by_how_it_is_kept(config: dict[str, Any], asked: str | None, each: float | None) -> None:
    found = quantization_of(config, asked)
    assert (found and found.bytes_each) == each


def test_fp8_made_while_loading_is_half_of_the_files() -> None:
    source = "Qwen/Qwen2.5-Coder-32B-Instruct"
    facts = known(source)
    plain, eight = (
        weights_on_each(ModelWeights(shape(source), quantization, facts.weight_bytes), ParallelLayout())
        for quantization in (None, facts.quantization("fp8"))
    )
    assert plain == facts.weight_bytes
    assert eight == pytest.approx(plain / 2, rel=0.06)


def test_experts_in_eight_bits_leave_attention_as_it_is() -> None:
    plain, eight = (layout_bytes(shape(MIXTRAL), quantization_of({}, asked))[0] for asked in (None, "experts_int8"))
    experts = 32 * 8 * 3 * 4096 * 14336
    assert plain - eight == experts
    dense = shape("Qwen/Qwen2.5-14B-Instruct")
    assert layout_bytes(dense, quantization_of({}, "experts_int8")) == layout_bytes(dense, None), "it has none"


def test_stages_share_the_layers_and_the_ends_hold_a_table_each() -> None:
    source = "Qwen/Qwen2.5-14B-Instruct"
    model = ModelWeights(shape(source), None, FACTS[source]["bytes"])
    whole, half = (weights_on_each(model, ParallelLayout(1, n)) for n in (1, 2))
    assert whole == FACTS[source]["bytes"]
    assert half == pytest.approx(whole / 2, rel=0.01)


def test_a_float32_file_takes_half_in_sixteen_bits() -> None:
    small = replace(shape("Qwen/Qwen2.5-0.5B-Instruct"), width=4)
    model = ModelWeights(small, None, 2 * 988_065_536)
    assert weights_on_each(model, ParallelLayout()) == pytest.approx(988_065_536)


def test_of_a_mixture_a_token_meets_two_experts() -> None:
    assert active_parameters(shape(MIXTRAL)) == pytest.approx(12.7e9, rel=0.01)  # 12.9e9 with both tables
    one = replace(shape(MIXTRAL), experts_per_token=1)
    assert active_parameters(one) < 0.6 * active_parameters(shape(MIXTRAL))
    assert activation_bytes(one, ParallelLayout(), 2048, 8) < activation_bytes(
        shape(MIXTRAL), ParallelLayout(), 2048, 8
    )


def fitted(source: str, layout: ParallelLayout, gpu: str, *, width: int = 2, **limits: Any) -> Memory | Shortfall:
    facts = known(source)
    model = ModelWeights(shape(source), facts.quantization(None), facts.weight_bytes, width)
    return fit(model, layout, GPUS[gpu], EngineLimits(0.9, **limits))


def test_mixtral_of_four_bits_fits_two_t4_and_not_one() -> None:
    two = fitted(MIXTRAL, ParallelLayout(2), "T4", graphs=False)
    assert isinstance(two, Memory)
    assert two.weights == pytest.approx(11.48, abs=0.01)
    assert two.sum == pytest.approx(two.usable)
    assert two.usable == pytest.approx(14.56 * 0.9)
    assert 4096 < two.length == two.cache_tokens // 16 * 16
    one = fitted(MIXTRAL, ParallelLayout(), "T4")
    assert isinstance(one, Shortfall)
    assert one.needed > 23 > one.usable


def test_what_the_recipe_says_is_kept_or_does_not_fit() -> None:
    said = fitted("Qwen/Qwen2.5-7B-Instruct", ParallelLayout(), "L4", length=8192, at_once=3)
    assert isinstance(said, Memory)
    assert (said.length, said.at_once) == (8192, 3)
    long = fitted(MIXTRAL, ParallelLayout(2), "T4", length=32_768)
    assert isinstance(long, Shortfall)
    assert long.length == 32_768


def test_a_window_bounds_what_one_prompt_holds() -> None:
    source = "mistralai/Mistral-7B-Instruct-v0.3"
    seen = replace(shape(source), window=4096, length=131_072)
    model = ModelWeights(seen, None, FACTS[source]["bytes"])
    found = fit(model, ParallelLayout(), GPUS["L4"], EngineLimits(0.9))
    assert isinstance(found, Memory)
    assert found.length == 131_072 > found.cache_tokens


@pytest.mark.parametrize("config", [{}, {"hidden_size": "?"}, {"num_attention_heads": 0, "hidden_size": 8}])
def test_of_another_kind_of_model_nothing_is_guessed(config: dict[str, Any]) -> None:
    assert shape_of(config) is None


def test_the_cache_in_gib_is_what_the_tokens_take() -> None:
    found = fitted("Qwen/Qwen2.5-7B-Instruct", ParallelLayout(2), "T4")
    assert isinstance(found, Memory)
    assert found.cache_tokens * 28_672 / GIB == pytest.approx(found.cache, abs=0.01)


QWEN3_MOE = {
    **{"model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768},
    **{"num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128},
    **{"vocab_size": 151936, "max_position_embeddings": 40960, "num_experts": 128, "num_experts_per_tok": 8},
}


def test_experts_of_another_layout_are_no_dense_model() -> None:
    assert shape_of(QWEN3_MOE) is None


@pytest.mark.parametrize(
    ("said", "window"),
    [
        ({"model_type": "mistral"}, 4096),
        ({"model_type": "qwen2", "use_sliding_window": False}, None),
        ({"model_type": "gemma3_text"}, None),  # five of its six layers see a window, the sixth all
        ({"model_type": "mistral", "layer_types": ["sliding_attention", "full_attention"]}, None),
    ],
)
def test_a_window_counts_where_every_layer_sees_it(said: dict[str, Any], window: int | None) -> None:
    dense = {name: value for name, value in QWEN3_MOE.items() if "expert" not in name}
    found = shape_of({**dense, "sliding_window": 4096, **said})
    assert found
    assert found.window == window


def test_in_float32_everything_takes_twice_as_much() -> None:
    source = "Qwen/Qwen2.5-7B-Instruct"
    half, whole = (fitted(source, ParallelLayout(), "A100", width=width, cache_width=width) for width in (2, 4))
    assert isinstance(half, Memory)
    assert isinstance(whole, Memory)
    assert whole.weights == pytest.approx(2 * half.weights)
    assert whole.cache_tokens < half.cache_tokens / 2
