"""A soup: several adapters of one model become one, with the mean of what they add to the model's weights.

The mean of two products is no product of means, so the parts stand side by side: a soup of adapters of the ranks r and
s has the rank r + s, and adds exactly the mean of what both add (Wortsman et al. 2022, arXiv:2203.05482, for models).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codemmlu.engine import lora
from codemmlu.engine.adapter_store import folder_of
from codemmlu.engine.lora import CONFIG, LEARNT, MANIFEST, WEIGHTS, Adapter
from codemmlu.errors import UserError
from codemmlu.recipe import digest
from codemmlu.run_dir import RunDir

# What changes how a product is scaled or shaped, by the key of adapter_config.json.
_UNMIXED = ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "modules_to_save")


def mixed(run: RunDir, parts: Sequence[Adapter], key: str) -> Adapter:
    """Return the soup of some adapters, which the run directory keeps.

    Args:
        run: The run directory.
        parts: The adapters, all of one model.
        key: The recipe's key of the adapters, for error messages.

    Returns:
        The soup.

    Raises:
        UserError: The adapters cannot be mixed.
    """
    bases = {base for part in parts if (base := lora.base_of(part))}
    if len(bases) > 1:
        raise UserError("the adapters were trained on different models; name adapters of one", key=key)
    folder = run.below(folder_of(f"soup-{digest(*(part.fingerprint for part in parts))[:12]}"))
    if not folder.exists(CONFIG):  # It is written last.
        config, weights = _mean(parts, key)
        learnt = sorted(frozenset[str]().union(*(lora.learnt_by(part.folder) for part in parts)))
        folder.write(WEIGHTS, weights)
        folder.write(LEARNT, json.dumps(learnt).encode())
        if bases:
            facts = {"base_fingerprint": bases.pop(), "soup_of": [part.path for part in parts]}
            folder.write(MANIFEST, json.dumps(facts, indent=1).encode())
        folder.write(CONFIG, json.dumps(config, indent=1).encode())
    return lora.validate(folder.address, key)


def _mean(parts: Sequence[Adapter], key: str) -> tuple[dict[str, Any], bytes]:
    """Return the configuration and the weights of a soup."""
    import torch
    from safetensors.torch import load_file, save

    configs = [json.loads(Path(part.folder, CONFIG).read_text(encoding="utf-8")) for part in parts]
    for part, config in zip(parts, configs, strict=True):
        if odd := [name for name in _UNMIXED if config.get(name)]:
            raise UserError(f"{part.path} has {odd[0]}, which a mean of adapters leaves out; name it alone", key=key)
    tensors = [load_file(Path(part.folder, WEIGHTS)) for part in parts]
    if len({frozenset(one) for one in tensors}) > 1:
        raise UserError("the adapters change different layers; name adapters that change the same ones", key=key)
    scales = [config["lora_alpha"] / config["r"] / len(parts) for config in configs]
    result = {}
    for name in sorted(tensors[0]):
        sides = [one[name].float() for one in tensors]
        if ".lora_A." in name:
            result[name] = torch.cat(sides, dim=0)
        else:
            result[name] = torch.cat([side * scale for side, scale in zip(sides, scales, strict=True)], dim=1)
    rank = sum(config["r"] for config in configs)
    return configs[0] | {"r": rank, "lora_alpha": rank}, save(result)
