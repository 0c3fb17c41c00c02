"""Model sources: the embedded default, a GGUF file, a local directory, the Hub.

`validate` checks a source in the driver, before any actor starts, and names what is wrong with it in one line.
`resolve` turns a source into what vLLM loads, on whichever node it is called; converted models are kept in a cache.
Only safetensors are loaded: pickled weights run code when they are read.
"""

import json
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

from codemmlu.engine import gguf, model_files, weight_files
from codemmlu.engine.placement.model_facts import ModelFacts
from codemmlu.engine.scripted import SCRIPTED, fingerprint, is_scripted, read_script
from codemmlu.errors import UserError

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")  # OWNER/NAME; ./x and ../x are paths
EMBEDDED = "embedded"
_TEMPLATE = "chat_template.json"


@dataclass(frozen=True)
class Model:
    """A model that can be loaded.

    Attributes:
        source: The source, as `resolve` takes it.
        revision: The commit of a Hub model, so that every node loads the same files.
        fingerprint: A name of the content; it changes with the weights, the tokenizer and the chat template.
        weight_bytes: The size of the weight files; None where it is not known, and for a scripted engine.
        config: The content of config.json, or what the Hub has of it; for a scripted engine, its script.
    """

    source: str
    revision: str | None
    fingerprint: str
    weight_bytes: int | None
    config: dict[str, Any]


def cache_folder() -> str:
    """Return the node's folder for converted models; the Hub's client keeps its downloads elsewhere."""
    if chosen := os.environ.get("CODEMMLU_CACHE"):
        return str(Path(chosen).absolute())
    return str(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "codemmlu")


def validate(source: str, revision: str | None, cache: str) -> Model:
    """Find a model and check that it can be loaded.

    Args:
        source: The recipe's `source` of the model.
        revision: The recipe's `revision`, a branch, tag or commit on the Hub.
        cache: The folder for converted models.

    Returns:
        The model; one from the Hub with its commit.

    Raises:
        UserError: There is no such model, it is broken or incomplete, or its weights are not safetensors.
    """
    if is_on_hub(source):
        return _on_hub(source, revision)
    if revision:
        raise UserError(f"revision {revision!r} is for Hub models, {source} is local; remove it", key="models")
    if is_scripted(source):
        script = read_script(source)
        return Model(source, None, fingerprint(script), None, script.model_dump(mode="json"))
    folder = Path(resolve(source, cache))
    weight_files.refuse_pointers(folder, f"models: {source}")
    config = model_files.read_config(folder, source)
    model_files.check_complete(folder, source)
    if not (folder / model_files.INDEX).exists():
        weight_files.refuse_missing_parts([file.name for file in folder.iterdir()], f"models: {source}")
    weights = {file: model_files.tensor_starts(file) for file in sorted(folder.glob("*.safetensors"))}
    weight_files.refuse_missing_layers(folder, config, f"models: {source}")
    return Model(
        source if source == EMBEDDED else str(Path(source).expanduser().absolute()),
        None,
        model_files.content_fingerprint(folder, weights),
        sum(file.stat().st_size for file in weights),
        config,
    )


class PinnedModel(TypedDict):
    """What this package knows of a model: its revision, the bytes of its weights, and its config.json."""

    revision: str
    bytes: int
    config: dict[str, Any]


@cache
def pinned() -> dict[str, PinnedModel]:
    """Return what is known of the recipes' models, by the id on the Hub, without asking the Hub."""
    models: dict[str, PinnedModel] = json.loads(
        Path(__file__).with_name("known_models.json").read_text(encoding="utf-8")
    )
    return models


def known(source: str, revision: str | None, cache: str) -> ModelFacts | None:
    """Return what is known of a model for the plan of its placement.

    A local model is read, the facts of the recipes' models are pinned in this package, and the Hub is asked for others.

    Args:
        source: The recipe's `source` of the model.
        revision: The recipe's `revision`.
        cache: The folder for converted models.

    Returns:
        The facts; None for a scripted engine, and where the Hub gives no answer.

    Raises:
        UserError: A local source is no model.
    """
    if is_scripted(source):
        return None
    facts = pinned().get(source)
    if facts and is_on_hub(source) and revision in (None, facts["revision"]):
        return ModelFacts(facts["config"], facts["bytes"])
    try:
        model = validate(source, revision, cache)
    except UserError:
        if not is_on_hub(source):
            raise
        return None
    return ModelFacts(model.config, model.weight_bytes)


def parameters(model: Model) -> float | None:
    """Estimate the number of a model's parameters.

    Args:
        model: The model.

    Returns:
        The number in the model's name (0.5B, 135M), or else the number that the size of plain weights gives; None where
        the Hub could not be asked or the weights are quantised.
    """
    if is_scripted(model.source):
        return None
    name = "135M" if model.source == EMBEDDED else Path(model.source).name
    match = re.search(r"(?<![0-9A-Za-z.])(\d+(?:\.\d+)?)([BM])(?![0-9A-Za-z])", name, re.IGNORECASE)
    if match:
        return float(match[1]) * (1e9 if match[2].upper() == "B" else 1e6)
    width = {"bfloat16": 2, "float16": 2, "float32": 4}.get(
        str(model.config.get("dtype") or model.config.get("torch_dtype"))
    )
    if model.weight_bytes is None or width is None or model.config.get("quantization_config"):
        return None
    return model.weight_bytes / width


def chat_template(source: str, revision: str | None) -> str | None:
    """Return the chat template in a model's `chat_template.json`; None where the model has no such file."""
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
        template = json.loads(file.read_text(encoding="utf-8"))["chat_template"] if file.is_file() else None
    except (ValueError, LookupError, TypeError):
        raise UserError(f"{source} has a {_TEMPLATE} without a chat_template", key="models") from None
    return template if isinstance(template, str) else None


def hub_file(source: str, name: str, revision: str | None, reached: bool) -> Path | None:
    """Return a file of a model on the Hub; None where the model has no such file, or the cache lacks it offline."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(cached := try_to_load_from_cache(source, name, revision=revision), str):
        return Path(cached)
    failures: tuple[type[BaseException], ...] = (OSError, ValueError, *HfHubHTTPError.__bases__)
    try:
        return Path(hf_hub_download(source, name, revision=revision)) if reached else None
    except failures:
        return None


def is_on_hub(source: str) -> bool:
    """Return whether a source is a Hub id: OWNER/NAME, and no path that exists."""
    local = source == EMBEDDED or source.endswith(".gguf") or Path(source).expanduser().exists()
    return not local and HUB_ID.fullmatch(source) is not None


def resolve(source: str, cache: str) -> str:
    """Return what vLLM takes as `model`: a directory on this machine, or the unchanged Hub id.

    Args:
        source: The recipe's `source` of the model.
        cache: The folder for converted models.

    Returns:
        The directory or the Hub id.

    Raises:
        UserError: There is no such model, or it has no weights.
    """
    if source == EMBEDDED:
        return str(gguf.convert(gguf.embedded_file(Path(cache)), Path(cache), known=True))
    if is_on_hub(source):
        return source
    if is_scripted(source):
        raise UserError(f"{source} has no weights: it can be asked, but not trained or merged", key="models")
    path = Path(source).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise UserError(f"there is no file {source}", key="models")
        return str(gguf.convert(path, Path(cache)))
    if not path.is_dir():
        raise UserError(
            f"{source} is neither a directory, a .gguf file, a Hub id (OWNER/NAME), `{EMBEDDED}` nor `{SCRIPTED}`",
            key="models",
        )
    return str(path.absolute())


def _on_hub(source: str, revision: str | None) -> Model:
    """Find a model on the Hub, or in the cache of the Hub's client where the Hub cannot be reached."""
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # With the base classes, because an HTTP error of the client's library (httpx or httpx2, by version) is no OSError.
    failures: tuple[type[BaseException], ...] = (OSError, ValueError, *HfHubHTTPError.__bases__)
    # The pinned revision is the one that the plan was made for.
    requested, revision = revision, revision or (pinned()[source]["revision"] if source in pinned() else None)
    at = f"{source}@{revision}" if revision else source
    try:
        info = HfApi().model_info(source, revision=revision, files_metadata=True, timeout=30)
    except GatedRepoError:
        raise UserError(f"{at} is gated: accept its terms on the Hub and set HF_TOKEN", key="models") from None
    except RevisionNotFoundError:
        raise UserError(f"{source} has no revision {revision!r}", key="models") from None
    except RepositoryNotFoundError:
        raise UserError(f"there is no {source}, neither as a path here nor on the Hub", key="models") from None
    except HFValidationError:
        raise UserError(f"{source} is no path here and can be no Hub id (OWNER/NAME)", key="models") from None
    except failures as error:
        # Where the pinned revision is not in the cache, another revision that the user has is better than none.
        configs = [try_to_load_from_cache(source, "config.json", revision=name) for name in (revision, requested)]
        if cached := next((config for config in configs if isinstance(config, str)), None):
            commit = Path(cached).parent.name
            return Model(source, commit, f"{source}@{commit}", None, json.loads(Path(cached).read_text()))
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{at} is no path here and the Hub cannot be reached ({first[:160]}); give a directory or a .gguf file",
            key="models",
        ) from None
    # Mistral's models hold their weights twice: the `consolidated` files are for Mistral's own library.
    files = [f for f in info.siblings or [] if f.rfilename.endswith(".safetensors")]
    weights = [f for f in files if not f.rfilename.startswith("consolidated")]
    if not weights:
        raise UserError(f"{at} has no .safetensors weights on the Hub; pickled ones are not loaded", key="models")
    if not any(f.rfilename == model_files.INDEX for f in info.siblings or []):
        weight_files.refuse_missing_parts([f.rfilename for f in weights], f"models: {at}")
    size = sum(f.size or 0 for f in weights)
    try:
        config = json.loads(Path(hf_hub_download(source, "config.json", revision=info.sha)).read_text("utf-8"))
    except failures:
        config = dict(info.config or {})  # This has little more than the kind of the model.
    return Model(source, info.sha, f"{source}@{info.sha}", size, config)
