"""Where models come from: the embedded default, a GGUF file, a local directory, the Hub.

`inspect` looks at a source in the driver, before any actor starts, and says in one line what is wrong with it.
`materialise` makes it a thing vLLM loads, on whichever node it is called; it is made once and kept in a cache.
Safetensors only: pickled weights run code when they are read.
"""

import hashlib
import json
import os
import re
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from codemmlu.engine import gguf
from codemmlu.engine.placement.memory import ModelFacts
from codemmlu.engine.scripted import SCRIPTED, fingerprint, is_scripted, read_script
from codemmlu.errors import UserError

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")  # ./x and ../x are paths
EMBEDDED = "embedded"
_TEMPLATE = "chat_template.json"
# Configuration, tokenizers (merges.txt among them), chat templates, and the code of models that bring their own.
_SMALL = (".json", ".jinja", ".model", ".txt", ".tiktoken", ".py")


@dataclass(frozen=True)
class Model:
    """A model that can be loaded.

    source: what `materialise` takes; for the Hub with the commit, so that every node loads the same
    fingerprint: changes when the weights, the tokenizer or the chat template do
    weight_bytes, config: of the files on disk; None and empty where they have not been fetched. Of a scripted engine
        None and the script
    """

    source: str
    revision: str | None
    fingerprint: str
    weight_bytes: int | None
    config: dict[str, Any]


def cache_folder() -> str:
    """Where models that were made (not downloaded by the Hub's client) are kept; each node has its own."""
    if chosen := os.environ.get("CODEMMLU_CACHE"):
        return str(Path(chosen).absolute())
    return str(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "codemmlu")


def validate(source: str, revision: str | None, cache: str) -> Model:
    """Finds a model and proves that it can be loaded. Raises UserError otherwise."""
    if is_on_hub(source):
        return _on_hub(source, revision)
    if revision:
        raise UserError(f"models: revision {revision!r} is for Hub models, {source} is local; remove it")
    if is_scripted(source):
        script = read_script(source)
        return Model(source, None, fingerprint(script), None, script.model_dump(mode="json"))
    folder = Path(resolve(source, cache))
    config = _checked_config(folder, source)
    _check_complete(folder, source)
    weights = {file: _tensor_starts(file) for file in sorted(folder.glob("*.safetensors"))}
    return Model(
        source if source == EMBEDDED else str(Path(source).expanduser().absolute()),
        None,
        _fingerprint(folder, weights),
        sum(file.stat().st_size for file in weights),
        config,
    )


@cache
def pinned() -> dict[str, dict[str, Any]]:
    """What is known of the recipes' models without asking the Hub: revision, bytes of the weights, config."""
    facts: dict[str, dict[str, Any]] = json.loads(
        Path(__file__).with_name("known_models.json").read_text(encoding="utf-8")
    )
    return facts


def known(source: str, revision: str | None, cache: str) -> ModelFacts | None:
    """What a plan knows of a model: of a local one all, of the recipes' what is written down, of others what the Hub
    says now; None where it says nothing, and of a scripted engine. Raises UserError for a local source that is not one.
    """
    if is_scripted(source):
        return None
    fact = pinned().get(source)
    if fact and is_on_hub(source) and revision in (None, fact["revision"]):
        return ModelFacts(fact["config"], fact["bytes"])
    try:
        model = validate(source, revision, cache)
    except UserError:
        if not is_on_hub(source):
            raise
        return None
    return ModelFacts(model.config, model.weight_bytes)


def parameters(model: Model) -> float | None:
    """How many parameters a model has, about: as its name says (0.5B, 135M), or by the size of its plain weights.

    None where neither tells: the Hub could not be asked, or the weights are quantised.
    """
    if is_scripted(model.source):
        return None
    name = "135M" if model.source == EMBEDDED else Path(model.source).name
    said = re.search(r"(?<![0-9A-Za-z.])(\d+(?:\.\d+)?)([BM])(?![0-9A-Za-z])", name, re.IGNORECASE)
    if said:
        return float(said[1]) * (1e9 if said[2].upper() == "B" else 1e6)
    width = {"bfloat16": 2, "float16": 2, "float32": 4}.get(
        str(model.config.get("dtype") or model.config.get("torch_dtype"))
    )
    if model.weight_bytes is None or width is None or model.config.get("quantization_config"):
        return None
    return model.weight_bytes / width


def chat_template(source: str, revision: str | None) -> str | None:
    """The chat template of a model that keeps it in `chat_template.json`; None where there is no such file."""
    file = Path(source).expanduser() / _TEMPLATE
    if is_on_hub(source):
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError

        failures: tuple[type[BaseException], ...] = (OSError, ValueError, *HfHubHTTPError.__bases__)
        try:
            file = Path(hf_hub_download(source, _TEMPLATE, revision=revision))
        except failures:
            return None
    try:
        told = json.loads(file.read_text(encoding="utf-8"))["chat_template"] if file.is_file() else None
    except (ValueError, LookupError, TypeError):
        raise UserError(f"models: {source} has a {_TEMPLATE} without a chat_template") from None
    return told if isinstance(told, str) else None


def is_on_hub(source: str) -> bool:
    """Whether a source is a Hub id and not a path: OWNER/NAME where no such path is."""
    local = source == EMBEDDED or source.endswith(".gguf") or Path(source).expanduser().exists()
    return not local and HUB_ID.fullmatch(source) is not None


def resolve(source: str, cache: str) -> str:
    """What vLLM is given as `model`: a directory on this machine, or the Hub id as it stands."""
    if source == EMBEDDED:
        return str(gguf.convert(gguf.embedded_file(Path(cache)), Path(cache)))
    if is_on_hub(source):
        return source
    if is_scripted(source):
        raise UserError(f"models: {source} has no weights: it can be asked, but not trained or merged")
    path = Path(source).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise UserError(f"models: there is no file {source}")
        return str(gguf.convert(path, Path(cache)))
    if not path.is_dir():
        raise UserError(
            f"models: {source} is neither a directory, a .gguf file, a Hub id (OWNER/NAME), `{EMBEDDED}` nor "
            f"`{SCRIPTED}`"
        )
    return str(path.absolute())


def _checked_config(folder: Path, source: str) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except OSError:
        raise UserError(f"models: {source} has no config.json: not a model directory") from None
    except ValueError as error:
        raise UserError(f"models: {source}/config.json is broken: {error}") from None
    if not isinstance(config, dict):
        raise UserError(f"models: {source}/config.json is broken: it holds no object")
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(f.name for f in (*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")))
        has = f"only {pickled[0]}, which would run code when read; convert it to safetensors" if pickled else "none"
        raise UserError(f"models: {source}: weights must be .safetensors, it has {has}")
    if not any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")):
        raise UserError(f"models: {source} has no tokenizer (tokenizer.json or tokenizer.model)")
    return config


def _check_complete(folder: Path, source: str) -> None:
    """Weights in several files come with an index: a file that was never copied is found here."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return
    try:
        named = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        missing = [name for name in named if not (folder / name).exists()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"models: {source}/{index.name} is broken: {error!r}") from None
    if missing:
        raise UserError(f"models: {source} has no {missing[0]}, which its index names: an incomplete copy")


def _tensor_starts(file: Path) -> list[int]:
    """Where in a safetensors file its tensors begin, in bytes.

    The header says how long the file is: a download that was cut off is found here, not after minutes of loading.
    """
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > 100_000_000:
                raise ValueError("its header is not one")
            header = json.loads(stream.read(length))
        spans = [tensor["data_offsets"] for name, tensor in header.items() if name != "__metadata__"]
        starts, ends = [int(start) for start, _ in spans], [int(end) for _, end in spans]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error) as error:
        raise UserError(f"models: {file} is no safetensors file: {error}") from None
    expected = 8 + length + max(ends, default=0)
    if file.stat().st_size != expected:
        raise UserError(f"models: {file} has {file.stat().st_size:,} bytes, not {expected:,}: an incomplete copy")
    return sorted(8 + length + start for start in starts)


def _fingerprint(folder: Path, weights: dict[Path, list[int]]) -> str:
    """A hash of the small files whole, and of each weight file's size, header and the first 4 KiB of every tensor.

    Reading 60 GB to name a model would take longer than answering with it; training changes a tensor everywhere, but
    not every tensor.
    """
    state = hashlib.sha256()
    small = [f for f in folder.iterdir() if f.suffix in _SMALL and f.is_file()]
    for file in sorted(small):
        state.update(file.name.encode() + b"\0" + file.read_bytes())
    for file, starts in weights.items():
        state.update(f"{file.name}\0{file.stat().st_size}".encode())
        with file.open("rb") as stream:
            state.update(stream.read(min(starts, default=None)))
            for start in starts:
                stream.seek(start)
                state.update(stream.read(2**12))
    return state.hexdigest()[:32]


def _on_hub(source: str, revision: str | None) -> Model:
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # The bases: an HTTP error of the client's own library, httpx or httpx2 by its version, is no OSError.
    failures: tuple[type[BaseException], ...] = (OSError, ValueError, *HfHubHTTPError.__bases__)
    said, revision = revision, revision or pinned().get(source, {}).get("revision")  # what the plan was made for
    at = f"{source}@{revision}" if revision else source
    try:
        info = HfApi().model_info(source, revision=revision, files_metadata=True, timeout=30)
    except GatedRepoError:
        raise UserError(f"models: {at} is gated: accept its terms on the Hub and set HF_TOKEN") from None
    except RevisionNotFoundError:
        raise UserError(f"models: {source} has no revision {revision!r}") from None
    except RepositoryNotFoundError:
        raise UserError(f"models: there is no {source}, neither as a path here nor on the Hub") from None
    except HFValidationError:
        raise UserError(f"models: {source} is no path here and can be no Hub id (OWNER/NAME)") from None
    except failures as error:
        # Where the pinned one is not there, another that the person has is better than none.
        there = [try_to_load_from_cache(source, "config.json", revision=one) for one in (revision, said)]
        if cached := next((one for one in there if isinstance(one, str)), None):
            commit = Path(cached).parent.name
            return Model(source, commit, f"{source}@{commit}", None, json.loads(Path(cached).read_text()))
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"models: {at} is no path here and the Hub cannot be reached ({first[:160]}); "
            "give a directory or a .gguf file"
        ) from None
    # Mistral's models hold their weights twice: `consolidated` is for its own library.
    files = [f for f in info.siblings or [] if f.rfilename.endswith(".safetensors")]
    weights = [f for f in files if not f.rfilename.startswith("consolidated")]
    if not weights:
        raise UserError(f"models: {at} has no .safetensors weights on the Hub; pickled ones are not loaded")
    size = sum(f.size or 0 for f in weights)
    try:
        config = json.loads(Path(hf_hub_download(source, "config.json", revision=info.sha)).read_text("utf-8"))
    except failures:
        config = dict(info.config or {})  # no more than its kind
    return Model(source, info.sha, f"{source}@{info.sha}", size, config)
