"""Adapter checks: whether vLLM can serve an adapter, and whether the adapter belongs to the model.

vLLM answers with the model alone where an adapter's names match no layer, and the engine's process ends where an
adapter cannot be loaded. Both are known from two headers before an engine starts.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codemmlu.engine import model_source, weight_files
from codemmlu.engine.lora import CONFIG, MANIFEST, WEIGHTS, Adapter, base_of, local
from codemmlu.engine.placement.model_facts import shape_of
from codemmlu.engine.scripted import is_scripted
from codemmlu.engine.weight_files import Layer
from codemmlu.errors import UserError

_PREFIX = "base_model.model."
# The name of an adapter's tensor: the layer, then the side of the product.
_TENSOR = re.compile(r"(?P<layer>.+)\.(?:lora_(?P<side>[AB])\.weight|lora_embedding_(?P<embedding>[AB]))")
# Weights of the model that peft saves beside an adapter; vLLM leaves them out.
_COPIES = (".base_layer.weight",)
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
# Initial weights that change nothing of the model; others (PiSSA, OLoRA, CorDA, LoftQ) also change the model's weights.
_PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
# What vLLM 0.32 cannot serve, by the key of adapter_config.json.
_NOT_SERVED = {
    "use_dora": "DoRA",
    "lora_bias": "LoRA with a bias",
    "alora_invocation_tokens": "activated LoRA",
    "layer_replication": "replicated layers",
    "use_bdlora": "block-diagonal LoRA",
    "use_qalora": "QALoRA",
    "trainable_token_indices": "trained tokens",
    "megatron_config": "Megatron's layers",
}


@dataclass
class _Side:
    """The shapes of an adapter's two tensors for one layer."""

    a: tuple[int, ...] | None = None
    b: tuple[int, ...] | None = None
    embedding: bool = False


def check(adapter: Adapter, key: str, name: str, model: model_source.Model | None) -> None:
    """Refuse an adapter that vLLM cannot serve, or that belongs to another model; the refusal is a UserError.

    Args:
        adapter: The adapter.
        key: The recipe's key of the adapter, for error messages.
        name: The name of the model in the recipe.
        model: The model; None: only the adapter's own files are checked.
    """
    if model and not _has_weights(model.source):
        return
    folder, what = local(adapter.path, model_source.cache_folder()), f"{key}: {adapter.path}"
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    _check_config(config, what)
    sides = _read_sides(folder / WEIGHTS, what)
    _check_ranks(sides, config, what)
    if not model or base_of(adapter) == model.fingerprint:  # This project trained it on this very model.
        return
    of_model = f"models.{name}"
    if model_source.is_on_hub(model.source):
        layers = _expected_layers(model.config)
    else:
        layers = _named_in_full(
            weight_files.layers_of(Path(model_source.resolve(model.source, model_source.cache_folder())), model.config)
        )
        _check_names(sides, layers, what, of_model, model.config)
        _check_depth(sides, layers, config, what, of_model)
    _check_widths(sides, layers, what, of_model)


def other_base(path: str, model: model_source.Model) -> str | None:
    """Return the model that an adapter's configuration names, where that is not the recipe's model.

    Args:
        path: The adapter's directory or address.
        model: The recipe's model.

    Returns:
        The name of the other model; None where both have one name, or where the adapter names none.
    """
    folder = local(path, model_source.cache_folder())
    if is_scripted(model.source) or (folder / MANIFEST).is_file():  # Of our own adapters the fingerprint is compared.
        return None
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    named = str(config.get("base_model_name_or_path") or "")
    return named if named and _last(named) != _last(model.source) else None


def _has_weights(source: str) -> bool:
    """Return whether a model has weights that an adapter can change; a scripted engine has none."""
    here = source == model_source.EMBEDDED or Path(source).expanduser().exists()
    return not is_scripted(source) and (here or model_source.is_on_hub(source))


def _last(source: str) -> str:
    return source.rstrip("/").rpartition("/")[2].casefold()


def _check_config(config: Mapping[str, Any], what: str) -> None:
    """Refuse a kind of LoRA that vLLM does not serve, by adapter_config.json."""
    for key, kind in _NOT_SERVED.items():
        if config.get(key):
            raise UserError(f"{what} has {kind} ({key} in {CONFIG}), which vLLM cannot serve; merge it into the model")
    if (bias := config.get("bias", "none")) != "none":
        raise UserError(
            f"{what} has biases (bias: {bias} in {CONFIG}), which vLLM cannot serve; merge it into the model"
        )
    if saved := config.get("modules_to_save"):
        raise UserError(
            f"{what} replaces whole layers (modules_to_save: {', '.join(map(str, saved))} in {CONFIG}), which vLLM "
            "cannot serve; merge it into the model"
        )
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in _PLAIN_INITS:
        raise UserError(
            f"{what} began with init_lora_weights: {init}, which also changes the model's weights; convert it to "
            "plain LoRA (peft's path_initial_model_for_weight_conversion)"
        )
    if missing := [key for key in ("lora_alpha", "target_modules") if config.get(key) is None]:
        raise UserError(f"{what}: {CONFIG} has no {missing[0]}; save the adapter again with peft's save_pretrained")
    alphas = config.get("alpha_pattern") or {}
    for alpha in (config["lora_alpha"], *(alphas.values() if isinstance(alphas, dict) else [alphas])):
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha) or alpha == 0:
            raise UserError(
                f"{what}: {CONFIG} scales weights by lora_alpha {alpha!r}: that has to be a number, and not 0"
            )


def _read_sides(file: Path, what: str) -> dict[str, _Side]:
    """Read the shapes of an adapter's tensors, by the layer that they change."""
    sides: dict[str, _Side] = {}
    for tensor, shape in weight_files.read_shapes(file, what).items():
        if tensor.endswith(_COPIES):
            continue
        match = _TENSOR.fullmatch(tensor)
        if match is None:
            raise UserError(f"{what} holds {tensor}, which is no LoRA weight that vLLM can serve")
        side = sides.setdefault(match["layer"].removeprefix(_PREFIX), _Side(embedding=match["embedding"] is not None))
        if (match["side"] or match["embedding"]) == "A":
            side.a = shape
        else:
            side.b = shape
    if not sides:
        raise UserError(f"{what}: {file.name} holds no LoRA weights: the adapter changes nothing")
    for layer, side in sides.items():
        if side.a is None or side.b is None:
            raise UserError(f"{what} holds one half of the weights of {layer} (lora_A, lora_B) without the other")
    if weight_files.is_zero(file, ("lora_B.weight", "lora_embedding_B")):
        raise UserError(f"{what}: all of its lora_B weights are zero: it was not trained, and changes nothing")
    return sides


def _check_ranks(sides: Mapping[str, _Side], config: Mapping[str, Any], what: str) -> None:
    """Refuse weights of another rank than their configuration's, by which vLLM scales them without an error."""
    patterns = config.get("rank_pattern") or {}
    for name, side in sides.items():
        if side.a is None or side.b is None or ".experts" in name:  # Of experts, all ranks are in one tensor.
            continue
        # As in peft: the first pattern that is the end of the layer's name.
        rank = next((rank for key, rank in patterns.items() if re.match(rf"(.*\.)?({key})$", name)), config["r"])
        if len(side.a) != 2 or len(side.b) != 2 or {side.a[0], side.b[1]} != {rank}:
            raise UserError(
                f"{what} has weights of shapes {list(side.a)} and {list(side.b)} for {name}, and {CONFIG} gives it the "
                f"rank {rank}: the two files do not belong together; save the adapter again with peft's save_pretrained"
            )


def _named_in_full(layers: Mapping[str, Layer]) -> dict[str, Layer]:
    """Return layers by the names that they have in a causal model, where a file holds the bare decoder."""
    bare = layers and not any(name.startswith(("model.", "transformer.", "language_model.")) for name in layers)
    return {f"model.{name}" if bare and name != "lm_head" else name: layer for name, layer in layers.items()}


def _check_names(
    sides: Iterable[str], layers: Mapping[str, Layer], what: str, of_model: str, config: Mapping[str, Any]
) -> None:
    """Refuse an adapter with weights for layers that the model does not have."""
    known = {*layers, *({"lm_head"} if "model.embed_tokens" in layers else ())}
    if config.get("text_config"):  # vLLM translates the prefixes of models that also see images.
        known |= {_from_layer_on(name) for name in known}
        lacking = [name for name in sides if name not in known and _from_layer_on(name) not in known]
    else:
        # Files name each expert of a mixture, an adapter names them by the library's version.
        has_experts = any(".experts" in name for name in layers)
        lacking = [name for name in sides if name not in known and not (has_experts and ".experts" in name)]
    total = len(list(sides))
    if not lacking:
        return
    if len(lacking) == total:
        short = lacking[0].rpartition(".")[2]
        example = next((name for name in layers if name.endswith(short)), next(iter(layers), "none"))
        raise UserError(
            f"{what} changes none of {of_model}'s layers: its names are such as {lacking[0]}, the model's such as "
            f"{example}; give the adapter of this model"
        )
    raise UserError(
        f"{what} has weights for {len(lacking):,} layers that {of_model} does not have, such as {lacking[0]}: it was "
        "trained on another model"
    )


def _from_layer_on(name: str) -> str:
    match = re.search(r"(?:^|\.)((?:layers|blocks|h)\.\d+\..+)", name)
    return match[1] if match else name


def _check_depth(
    sides: Iterable[str], layers: Mapping[str, Layer], config: Mapping[str, Any], what: str, of_model: str
) -> None:
    """Refuse an adapter that leaves out layers which its configuration targets: the adapter of a shallower model."""
    targets = config.get("target_modules")
    chosen = config.get("layers_to_transform") or config.get("exclude_modules") or config.get("layers_pattern")
    if not isinstance(targets, list) or chosen:
        return
    with_weights = Counter(_NUMBER.sub("*", name) for name in sides)
    in_model = Counter(_NUMBER.sub("*", name) for name in layers)
    for pattern, count in with_weights.items():
        short = pattern.rpartition(".")[2]
        if short in targets and "*" in pattern and count < in_model[pattern]:
            raise UserError(
                f"{what} has weights for {count:,} of the {in_model[pattern]:,} layers {pattern} of {of_model}: it was "
                "trained on another model"
            )


def _expected_layers(config: dict[str, Any]) -> dict[str, Layer]:
    """Return the projections of a decoder whose files are not here, by the sizes in its config.json."""
    shape = shape_of(config)
    if shape is None or shape.experts > 1 or config.get("text_config"):
        return {}
    queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    widths = {
        "self_attn.q_proj": Layer(queries, shape.hidden),
        "self_attn.k_proj": Layer(keys, shape.hidden),
        "self_attn.v_proj": Layer(keys, shape.hidden),
        "self_attn.o_proj": Layer(shape.hidden, queries),
        "mlp.gate_proj": Layer(shape.intermediate, shape.hidden),
        "mlp.up_proj": Layer(shape.intermediate, shape.hidden),
        "mlp.down_proj": Layer(shape.hidden, shape.intermediate),
    }
    return {f"model.layers.{n}.{name}": layer for n in range(shape.layers) for name, layer in widths.items()}


def _check_widths(sides: Mapping[str, _Side], layers: Mapping[str, Layer], what: str, of_model: str) -> None:
    """Refuse an adapter whose weights are of other widths than the model's layers."""
    for name, side in sides.items():
        layer = layers.get(name)
        if layer is None or side.a is None or side.b is None or ".experts" in name:
            continue
        inputs, outputs = side.a[-1], side.b[0]
        if side.embedding:  # A table: it maps tokens (outputs of the stored matrix) to a width.
            inputs, outputs = side.b[0], side.a[-1]
        if layer.inputs not in (None, inputs) or layer.outputs not in (None, outputs):
            wide = f"{_width(layer.inputs)} to {_width(layer.outputs)}"
            raise UserError(
                f"{what} was trained on another model: its {name} maps {inputs:,} numbers to {outputs:,}, that of "
                f"{of_model} {wide}"
            )


def _width(size: int | None) -> str:
    return "some" if size is None else f"{size:,}"
