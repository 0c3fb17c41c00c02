"""Files of an index that are missing or damaged: a run's own index is built again, and a user's is one line."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from codemmlu.retrieval import index
from codemmlu.retrieval.index_store import IndexManifest, read_manifest
from codemmlu.run_dir import RunDir
from tests.support.processes import Run
from tests.support.runs import job, working_directory

EARLIER = Path(__file__).parents[1] / "fixtures" / "earlier_run"
FILES = ("00000/index.faiss", "00000/examples.parquet")
DAMAGES = ("missing", "cut", "flipped", "empty")


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A copy of a run that has ended, with an index of its own and a copy of the index elsewhere."""
    shutil.copytree(EARLIER, tmp_path / "of_before")
    shutil.copytree(EARLIER / "run/index", tmp_path / "elsewhere")
    return tmp_path / "of_before"


@pytest.fixture(autouse=True)
def built(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The indexes that were built: a copy of the index of before takes the place of Ray."""
    folders = []

    def build(inputs: Any, spec: object, examples: Sequence[object]) -> IndexManifest:
        assert examples
        folders.append(Path(inputs.index.base))
        shutil.copytree(EARLIER / "run/index", inputs.index.base, dirs_exist_ok=True)
        manifest = read_manifest(RunDir(inputs.index.base))
        assert manifest
        return manifest

    monkeypatch.setattr(index, "_build", build)
    monkeypatch.setattr("codemmlu.report.figures.figures", lambda _: [])
    return folders


def vote(folder: Path, *overrides: str) -> Run:
    """Vote with the one voter that looks at examples."""
    with working_directory(folder):
        return job("vote", "recipe.yaml", "vote.fit=null", "voters={near: {method: retrieve}}", *overrides)


def damage(file: Path, how: str) -> None:
    """Change a file, or remove it."""
    content = file.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    if how == "missing":
        file.unlink()
    else:
        file.write_bytes({"cut": content[:middle], "flipped": flipped, "empty": b""}[how])


def test_a_whole_index_is_reused(earlier: Path, built: list[Path]) -> None:
    done = vote(earlier)
    assert (done.code, built) == (0, []), done.err
    assert "their index stands and nothing changed: reused" in done.out


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", DAMAGES)
def test_an_index_of_the_run_is_built_again(earlier: Path, built: list[Path], name: str, how: str) -> None:
    file = earlier / "run/index" / name
    damage(file, how)
    left = file.read_bytes() if file.exists() else None
    done = vote(earlier)
    assert done.code == 0, done.err
    assert built == [earlier / "run/index"]
    kept = file.with_name(f"{file.name}.damaged")
    assert (kept.read_bytes() if kept.exists() else None) == left
    says = f"run/index/{name} is missing: the index is made anew"
    assert (says if left is None else f"it was changed or cut off, it is kept as {kept.name}: the index") in done.out
    assert "there is nothing" not in done.out
    assert vote(earlier).code == 0
    assert len(built) == 1, "the second time it is whole"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", DAMAGES)
def test_an_index_of_the_user_is_one_line(earlier: Path, built: list[Path], name: str, how: str) -> None:
    place = earlier.parent / "elsewhere"
    damage(place / name, how)
    before = sorted(file.name for file in place.rglob("*"))
    done = vote(earlier, f"examples.index={place}")
    assert (done.code, done.err.count("\n"), built) == (2, 1, []), done.err
    assert done.err.startswith(f"error: examples.index: {place}/{name} ")
    assert f"copy the index again, or delete {place} and make it anew with examples.source" in done.err
    assert {*before} == {file.name for file in place.rglob("*")} - {".lock"}


@pytest.mark.parametrize("how", DAMAGES)
def test_so_is_an_index_without_its_source(earlier: Path, built: list[Path], how: str) -> None:
    place = earlier.parent / "elsewhere"
    damage(place / FILES[1], how)
    done = vote(earlier, f"examples.index={place}", "examples.source=null")
    assert (done.code, done.err.count("\n"), built) == (2, 1, []), done.err
    assert done.err.startswith(f"error: examples.index: {place}/{FILES[1]} ")


@pytest.mark.parametrize("shards", ["[]", "null", "[3]"])
def test_a_manifest_without_shards_is_one_line(earlier: Path, shards: str) -> None:
    place = earlier.parent / "elsewhere"
    text = (place / "manifest.json").read_text()
    begin, end = text.index('"shards"'), text.index('"weights"')
    (place / "manifest.json").write_text(f'{text[:begin]}"shards": {shards}, {text[end:]}')
    done = vote(earlier, f"examples.index={place}")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert "manifest.json is broken (" in done.err
