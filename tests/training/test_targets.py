"""The targets of a training: each has to be a layer of the model, and the manifest says what was trained."""

from pathlib import Path
from typing import Any

import pytest

from codemmlu.engine.adapter_store import trained_layers
from codemmlu.errors import UserError
from codemmlu.recipe import FinetuneSettings
from codemmlu.training.targets import check_targets
from tests.support.adapters import layers, write_adapter

SMALL: dict[str, Any] = {
    **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2},
    **{"num_key_value_heads": 2, "vocab_size": 64},
}
DEFAULT = FinetuneSettings(model="m").targets


def phi3() -> Any:
    from transformers import Phi3Config, Phi3ForCausalLM

    return Phi3ForCausalLM(Phi3Config(**SMALL, pad_token_id=0))


def mixtral() -> Any:
    from transformers import MixtralConfig, MixtralForCausalLM

    return MixtralForCausalLM(MixtralConfig(**SMALL, num_local_experts=2))


def llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**SMALL))


def test_fused_names_are_said_with_the_models_own() -> None:
    with pytest.raises(UserError) as error:
        check_targets(phi3(), DEFAULT)
    assert str(error.value) == (
        "finetune.targets: q_proj, k_proj, v_proj, gate_proj, up_proj match no layer of this model; its layers are "
        "down_proj, gate_up_proj, o_proj, qkv_proj: set finetune.targets=[down_proj, gate_up_proj, o_proj, qkv_proj], "
        "or some of them"
    )
    check_targets(phi3(), ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"])


def test_experts_that_lora_does_not_train_are_said() -> None:
    with pytest.raises(UserError, match="gate_proj, up_proj, down_proj match no layer of this model; its experts are"):
        check_targets(mixtral(), DEFAULT)
    check_targets(mixtral(), ["q_proj", "k_proj", "v_proj", "o_proj"])


def test_layers_of_the_model_are_taken_by_any_name() -> None:
    check_targets(llama(), DEFAULT)
    check_targets(llama(), ["self_attn.q_proj", "model.layers.0.mlp.up_proj", "lm_head"])


def test_the_manifest_counts_the_layers_that_were_trained(tmp_path: Path) -> None:
    assert trained_layers(write_adapter(tmp_path, layers(depth=3))) == {"down_proj": 3, "q_proj": 3, "v_proj": 3}
