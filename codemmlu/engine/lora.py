"""LoRA adapters: weights beside a model, as peft writes them. One engine serves a model with adapters."""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codemmlu.engine.model_source import cache_folder
from codemmlu.engine.weight_files import LFS_POINTER
from codemmlu.errors import UserError, first_line
from codemmlu.run_dir import DamagedError, RunDir

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MANIFEST, LEARNT = "manifest.json", "learnt.json"  # only of adapters that this project trained: see adapter_store.py
_PICKLED = "adapter_model.bin"
_REMEDY = "train the adapter again, or use another"
# The ranks that vLLM reserves memory for.
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True)
class Adapter:
    """An adapter that can be loaded.

    Attributes:
        path: Its directory, or its address.
        fingerprint: A hash of its configuration and its weights.
        rank: Its LoRA rank, the largest of any layer.
        folder: Its directory on this machine.
    """

    path: str
    fingerprint: str
    rank: int
    folder: str = ""


def local(path: str, cache: str) -> Path:
    """Return an adapter's directory on this machine: for an address (s3://, gs://), a copy in the cache."""
    if "://" not in path:
        return Path(path).expanduser()
    remote = RunDir(path)
    files = {name: remote.read(name) for name in (CONFIG, WEIGHTS, LEARNT, MANIFEST) if remote.exists(name)}
    content_hash = hashlib.sha256(b"".join(files.values())).hexdigest()[:32]
    folder = RunDir(f"{cache}/adapters/{content_hash}")
    for name, data in files.items():
        folder.write(name, data)
    return Path(folder.address)


def base_of(adapter: Adapter) -> str | None:
    """Return the fingerprint of the model that an adapter was trained on; None if trained elsewhere.

    Raises:
        DamagedError: The adapter's manifest is not as it was written.
    """
    manifest = Path(adapter.folder) / MANIFEST
    if not manifest.is_file():
        return None
    try:
        return str(json.loads(manifest.read_text(encoding="utf-8"))["base_fingerprint"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise DamagedError(str(manifest), first_line(error), _REMEDY) from None


def learnt_by(path: str) -> frozenset[str]:
    """Return the content keys of the training questions of an adapter, or of a model with one merged in.

    Args:
        path: The directory or address of the adapter, or of the model.

    Returns:
        The content keys; empty where this project did not train it.
    """
    learnt = local(path, cache_folder()) / LEARNT
    return content_keys(learnt.read_bytes(), str(learnt)) if learnt.is_file() else frozenset()


def content_keys(text: bytes, path: str) -> frozenset[str]:
    """Return the content keys in a file of them.

    Raises:
        DamagedError: The file holds something else.
    """
    try:
        keys = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedError(path, first_line(error), _REMEDY) from None
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise DamagedError(path, "it is no list of content keys", _REMEDY)
    return frozenset(keys)


def check(path: str, key: str) -> int:
    """Check that an adapter can be served, without its weights: they are neither read nor copied from an address.

    Args:
        path: The adapter's directory or address.
        key: The recipe's key of the adapter, for error messages.

    Returns:
        The adapter's LoRA rank.

    Raises:
        UserError: Files are missing or broken, or the adapter is not a LoRA adapter of a rank that vLLM serves.
    """
    folder = RunDir(path, key)
    if missing := [name for name in (CONFIG, WEIGHTS) if not folder.exists(name)]:
        remedy = "name the directory that peft's save_pretrained wrote"
        if missing == [WEIGHTS] and folder.exists(_PICKLED):
            remedy = f"{_PICKLED} is not read, as pickled weights run code; save them with safe_serialization=True"
        raise UserError(f"{path} has no {missing[0]}; {remedy}", key=key)
    try:
        text = folder.read(CONFIG)
        if text.startswith(LFS_POINTER):
            raise UserError(f"{path}: {CONFIG} is only git-lfs's pointer; fetch it with `git lfs pull`", key=key)
        config = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{folder.shown}/{CONFIG} is no JSON: {first_line(error)}", key=key) from None
    if not isinstance(config, dict):
        raise UserError(f"{folder.shown}/{CONFIG} is no adapter's configuration: it holds no object", key=key)
    kind, rank = config.get("peft_type"), config.get("r")
    if kind != "LORA" or not isinstance(rank, int) or isinstance(rank, bool):
        raise UserError(f"{path} is a {kind} adapter; a LORA one with a rank `r` can be served", key=key)
    rank = max([rank, *_layer_ranks(config, path, key)])
    if not 0 < rank <= _RANKS[-1]:
        raise UserError(f"{path} has rank {rank}; vLLM serves up to {_RANKS[-1]}", key=key)
    return rank


def validate(path: str, key: str) -> Adapter:
    """Check that an adapter can be served, as `check` does, and hash its files, once for a run.

    Args:
        path: The adapter's directory or address.
        key: The recipe's key of the adapter, for error messages.

    Returns:
        The adapter.
    """
    rank = check(path, key)
    folder = local(path, cache_folder())
    fingerprint = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        with (folder / name).open("rb") as file:
            fingerprint.update(hashlib.file_digest(file, "sha256").digest())
    address = path if "://" in path else str(folder.absolute())
    return Adapter(address, fingerprint.hexdigest()[:32], rank, str(folder.absolute()))


def _layer_ranks(config: dict[str, Any], path: str, key: str) -> list[int]:
    """Return the ranks of layers that have a rank of their own (peft's rank_pattern)."""
    pattern = config.get("rank_pattern") or {}
    if not isinstance(pattern, dict) or not all(isinstance(rank, int) and rank > 0 for rank in pattern.values()):
        raise UserError(f"{path}: rank_pattern in {CONFIG} is no mapping of layers to ranks", key=key)
    try:
        list(map(re.compile, pattern))
    except re.error as error:
        raise UserError(f"{path}: rank_pattern in {CONFIG} is no regular expression: {error}", key=key) from None
    return list(pattern.values())


def engine_arguments(adapters: Iterable[Adapter]) -> dict[str, bool | int]:
    """Return the vLLM arguments for serving adapters; none without adapters, as room for them costs speed."""
    different = {adapter.path: adapter for adapter in adapters}
    if not different:
        return {}
    most = max(adapter.rank for adapter in different.values())
    return {
        "enable_lora": True,
        "max_loras": min(8, len(different)),
        "max_lora_rank": next(rank for rank in _RANKS if rank >= most),
    }
