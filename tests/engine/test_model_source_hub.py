"""Model sources on the Hub, against a server on this machine: what cannot be had is one line."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from codemmlu.engine.model_source import chat_template, validate
from codemmlu.errors import UserError
from tests.support.model_hub import ModelHub, serving

SHA, NEWER = "1" * 40, "2" * 40


def hub_model(sha: str, *files: tuple[str, int]) -> dict[str, Any]:
    """What the Hub says of a model."""
    siblings = [{"rfilename": name, "size": size} for name, size in files]
    return {"id": "a/b", "sha": sha, "siblings": siblings, "config": {"model_type": "tiny"}, "tags": []}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hub cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "hub"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelHub]:
    """A Hub with one model at two commits, and others that cannot be had."""
    models: dict[str, dict[str, Any] | tuple[int, str]] = {
        "a/b": hub_model(SHA, ("model-1.safetensors", 70), ("model-2.safetensors", 30), ("config.json", 9)),
        "a/b/revision/next": hub_model(NEWER, ("model.safetensors", 50)),
        "a/b/revision/gone": (404, "RevisionNotFound"),
        "a/gated": (403, "GatedRepo"),
        "a/private": (401, "RepoNotFound"),
        "a/pickled": hub_model(SHA, ("pytorch_model.bin", 70)),
        "a/busy": (503, ""),
    }
    with serving(ModelHub(models)) as served:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", served.endpoint)
        files = served.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        yield served


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hub that cannot be reached."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{port}")


def fault(source: str, revision: str | None = None) -> str:
    """Return the text of the error; always one line."""
    with pytest.raises(UserError) as error:
        validate(source, revision, "unused")
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.usefixtures("hub")
def test_a_model_is_pinned_to_the_commit_of_this_moment() -> None:
    found = validate("a/b", None, "unused")
    assert (found.source, found.revision, found.fingerprint) == ("a/b", SHA, f"a/b@{SHA}")
    assert found.weight_bytes == 100
    assert found.config == {"model_type": "tiny"}


@pytest.mark.usefixtures("hub")
def test_another_revision_is_another_model() -> None:
    found = validate("a/b", "next", "unused")
    assert (found.revision, found.fingerprint, found.weight_bytes) == (NEWER, f"a/b@{NEWER}", 50)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("source", "revision", "says"),
    [
        ("a/gated", None, "models: a/gated is gated: accept its terms on the Hub and set HF_TOKEN"),
        ("a/b", "gone", "models: a/b has no revision 'gone'"),
        ("a/none", None, "models: there is no a/none, neither as a path here nor on the Hub"),
        ("a/private", None, "models: there is no a/private, neither as a path here nor on the Hub"),
        ("a/pickled", None, "models: a/pickled has no .safetensors weights on the Hub; pickled ones are not loaded"),
        ("a/b--c", None, "models: a/b--c is no path here and can be no Hub id (OWNER/NAME)"),
        (f"a/{'b' * 99}", None, "can be no Hub id"),
    ],
)
def test_what_cannot_be_had_is_told(source: str, revision: str | None, says: str) -> None:
    assert says in fault(source, revision)


@pytest.mark.usefixtures("hub")
def test_a_hub_in_trouble_is_told() -> None:
    said = fault("a/busy")
    assert "models: a/busy is no path here and the Hub cannot be reached (" in said
    assert "503" in said
    assert said.endswith("give a directory or a .gguf file")


@pytest.mark.usefixtures("nobody")
def test_a_hub_that_cannot_be_reached_is_told() -> None:
    assert "the Hub cannot be reached (" in fault("a/b")
    assert fault("a/b", "next").startswith("models: a/b@next is no path here")


@pytest.mark.usefixtures("hub")
def test_offline_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "the Hub cannot be reached (" in fault("a/b")


@pytest.mark.usefixtures("nobody")
def test_without_the_hub_a_model_that_was_fetched_before_is_used(cache: Path) -> None:
    repository = cache / "models--a--b"
    (repository / "snapshots" / SHA).mkdir(parents=True)
    (repository / "snapshots" / SHA / "config.json").write_text('{"model_type": "tiny"}')
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(SHA)
    found = validate("a/b", None, "unused")
    assert (found.revision, found.fingerprint, found.weight_bytes) == (SHA, f"a/b@{SHA}", None)
    assert found.config == {"model_type": "tiny"}
    assert "cannot be reached" in fault("a/b", "next")


def test_a_chat_template_in_a_file_of_its_own_is_found(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert chat_template("a/b", SHA) is None
    snapshot = cache / "models--a--b" / "snapshots" / SHA
    snapshot.mkdir(parents=True)
    (snapshot / "chat_template.json").write_text('{"chat_template": "{{ messages }}"}')
    assert chat_template("a/b", SHA) == "{{ messages }}"
