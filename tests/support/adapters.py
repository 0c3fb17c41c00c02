"""LoRA adapters of any shape, written as peft writes them, for models whose files a test has made."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from codemmlu.engine.lora import CONFIG, WEIGHTS

# The projections of `tests.support.tiny_model`, as (outputs, inputs).
TINY = {"self_attn.q_proj": (64, 64), "self_attn.v_proj": (64, 64), "mlp.down_proj": (64, 128)}


def layers(prefix: str = "model.", depth: int = 2, **widths: tuple[int, int]) -> dict[str, tuple[int, int]]:
    """Return the layers that an adapter changes, with their widths. widths: of other projections of attention."""
    of_one = {**TINY, **{f"self_attn.{name}": width for name, width in widths.items()}}
    return {f"{prefix}layers.{n}.{name}": width for n in range(depth) for name, width in of_one.items()}


def write_adapter(folder: Path, changed: Mapping[str, tuple[int, int]], **config: Any) -> Path:
    """Write an adapter and return its folder.

    Args:
        folder: Where it goes.
        changed: The (outputs, inputs) of each layer; empty: one layer `w` of one number.
        **config: Fields of adapter_config.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rank = config.get("r", 4)
    known = {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"]}
    (folder / CONFIG).write_text(json.dumps({**known, **config}))
    numbers = np.random.default_rng(0)
    tensors = {}
    for name, (outputs, inputs) in (changed or {"w": (1, 1)}).items():
        for side, shape in (("A", (rank, inputs)), ("B", (outputs, rank))):
            tensors[f"base_model.model.{name}.lora_{side}.weight"] = numbers.normal(size=shape).astype(np.float32)
    save_file(tensors, folder / WEIGHTS)
    return folder
