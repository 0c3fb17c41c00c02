"""Adapters: LoRA weights beside a model, as peft writes them. One engine serves the model and all of its adapters."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codemmlu.engine.model_source import cache_folder
from codemmlu.errors import UserError
from codemmlu.run_dir import RunDir

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MANIFEST, LEARNT = "manifest.json", "learnt.json"  # of those that this project trained: see training/published.py
# The ranks that vLLM reserves memory for.
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True)
class Adapter:
    """An adapter that can be loaded: its directory, a hash of what it changes, and its LoRA rank."""

    path: str
    fingerprint: str
    rank: int


def local(path: str, cache: str) -> Path:
    """The directory of an adapter on this machine: of one at an address (s3://, gs://) a copy in the cache."""
    if "://" not in path:
        return Path(path).expanduser()
    there = RunDir(path)
    content = {name: there.read(name) for name in (CONFIG, WEIGHTS, LEARNT, MANIFEST) if there.exists(name)}
    whole = hashlib.sha256(b"".join(content.values())).hexdigest()[:32]
    folder = RunDir(f"{cache}/adapters/{whole}")
    for name, its in content.items():
        folder.write(name, its)
    return Path(folder.address)


def base_of(adapter: Adapter) -> str | None:
    """The fingerprint of the model that this project trained an adapter on; None of one that came from elsewhere."""
    manifest = local(adapter.path, cache_folder()) / MANIFEST
    return str(json.loads(manifest.read_text(encoding="utf-8"))["base_fingerprint"]) if manifest.is_file() else None


def learnt_by(path: str) -> frozenset[str]:
    """The twin keys of the questions that this project trained an adapter on, or a model that one was merged into; none
    of one from elsewhere."""
    learnt = local(path, cache_folder()) / LEARNT
    return frozenset(json.loads(learnt.read_text(encoding="utf-8"))) if learnt.is_file() else frozenset()


def validate(path: str, key: str) -> Adapter:
    """Finds an adapter and proves that it can be loaded. Raises UserError, which names the recipe's `key`."""
    folder = local(path, cache_folder())
    if missing := [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]:
        raise UserError(f"{key}: {path} has no {missing[0]}; name the directory that peft's save_pretrained wrote")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{key}: {folder / CONFIG} is no JSON: {error}") from None
    kind, rank = config.get("peft_type"), config.get("r")
    if kind != "LORA" or not isinstance(rank, int):
        raise UserError(f"{key}: {path} is a {kind} adapter; a LORA one with a rank `r` can be served")
    if rank > _RANKS[-1]:
        raise UserError(f"{key}: {path} has rank {rank}; vLLM serves up to {_RANKS[-1]}")
    whole = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        with (folder / name).open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    place = path if "://" in path else str(folder.absolute())
    return Adapter(place, whole.hexdigest()[:32], rank)


def engine_arguments(adapters: Iterable[Adapter]) -> dict[str, Any]:
    """What vLLM is told so that it can serve adapters; nothing where there are none, as room for them costs speed."""
    different = {adapter.path: adapter for adapter in adapters}
    if not different:
        return {}
    most = max(adapter.rank for adapter in different.values())
    return {
        "enable_lora": True,
        "max_loras": min(8, len(different)),
        "max_lora_rank": next(rank for rank in _RANKS if rank >= most),
    }
