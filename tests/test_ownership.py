"""What a run may not touch: files of the user in its directory, and inputs where it writes."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codemmlu.errors import UserError
from codemmlu.run_dir import RunDir, is_written
from codemmlu.run_dir.ownership import _STALE, claim, remove_leftovers
from tests.support.processes import Run
from tests.support.runs import job

MINE = b'{"task_id": "a", "question": "q?", "choices": ["x", "y"], "answer": "A"}\n'
EARLIER = Path(__file__).parent / "fixtures" / "earlier_run" / "run"


def recipe(folder: Path, out: Path) -> list[str]:
    """Write a recipe that asks no engine, with its inputs, and return a job's arguments."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "questions.jsonl").write_bytes(MINE)
    (folder / "other.csv").write_text("task_id,answer\na,A\n")
    text = {
        "out": str(out),
        "questions": {"source": str(folder / "questions.jsonl")},
        "voters": {"other": {"method": "submission", "source": str(folder / "other.csv")}},
    }
    (folder / "given.yaml").write_text(json.dumps(text))
    return [str(folder / "given.yaml")]


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder by its name there."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def refused(done: Run, *parts: str) -> None:
    """Check that a job ended with one line that has all parts."""
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    for part in parts:
        assert part in done.err


@pytest.mark.parametrize(
    "name",
    [
        *("questions/my.jsonl", "questions/000000.parquet", "training/notes.txt", "merged/tuned/config.json"),
        *("pending/m/0.parquet", "building/thesis.tex", "index/building/000000.parquet", "recipe.yaml"),
        *("report.html", "submission.csv", "voters.parquet", ".git/config", ".env"),
    ],
)
@pytest.mark.parametrize("command", ["run", "vote", "dry"])
def test_a_directory_of_the_user_is_refused(name: str, command: str, tmp_path: Path) -> None:
    out = tmp_path / "proj"
    file = out / name
    file.parent.mkdir(parents=True)
    file.write_bytes(MINE)
    given_ = [*recipe(tmp_path / "given", out), *(["--dry-run"] * (command == "dry"))]
    refused(job("vote" if command == "vote" else "run", *given_), "out: ", str(out), name.partition("/")[0])
    assert contents(out) == {name: MINE}


def test_the_questions_may_not_lie_in_such_a_directory(tmp_path: Path) -> None:
    out = tmp_path / "proj"
    (out / "questions").mkdir(parents=True)
    (out / "questions" / "my.jsonl").write_bytes(MINE)
    arguments = recipe(tmp_path / "given", out)
    refused(job("run", *arguments, f"questions.source={out}/questions/my.jsonl"), "is not empty (questions)")
    assert contents(out) == {"questions/my.jsonl": MINE}


@pytest.fixture
def finished(tmp_path: Path) -> tuple[list[str], Path]:
    """The arguments of a run that has ended, and its directory."""
    arguments, out = recipe(tmp_path / "given", tmp_path / "run"), tmp_path / "run"
    done = job("run", *arguments)
    assert done.code == 0, done.err
    return arguments, out


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("voters.other.source", "submission.csv"),
        ("voters.other.source", "*.csv"),
        ("voters.other.source", ""),
        ("questions.source", "questions/my.jsonl"),
        ("questions.source", "questions"),
        ("questions.source", "questions.new/my.jsonl"),
        ("questions.source", "**/*.parquet"),
        ("examples.source", "answers/m/x.jsonl"),
        ("examples.embedder.source", "training/model"),
    ],
)
@pytest.mark.parametrize("through", ["itself", "link"])
def test_an_input_where_the_run_writes_is_refused(
    finished: tuple[list[str], Path], key: str, name: str, through: str, tmp_path: Path
) -> None:
    arguments, out = finished
    for file in ("questions/my.jsonl", "questions.new/my.jsonl", "answers/m/x.jsonl"):
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        (out / file).write_bytes(MINE)
    if through == "link":
        (tmp_path / "link").symlink_to(out)
    before = contents(out)
    path = (tmp_path / "link" if through == "link" else out) / name
    refused(job("run", *arguments, f"{key}={path}"), f"{key}: ", "lies where the run itself writes")
    assert contents(out) == before


@pytest.mark.parametrize("key", ["finetune.start={out}/adapters/tuned", "models.m.source={out}/merged/tuned"])
def test_nor_may_weights_that_a_training_replaces(finished: tuple[list[str], Path], key: str) -> None:
    arguments, out = finished
    training = ("models.m.source=scripted", "finetune.model=m", "examples.source=sample")
    refused(job("run", *arguments, *training, key.format(out=out)), "lies where the run itself writes")


def test_a_run_of_an_earlier_version_is_recognised(tmp_path: Path) -> None:
    shutil.copytree(EARLIER, tmp_path / "run")
    claim(RunDir(str(tmp_path / "run")))
    for name in ("index/manifest.json", "index/00000/index.faiss"):
        part = tmp_path / name.replace("/", "_")
        (part / name).parent.mkdir(parents=True)
        shutil.copy(EARLIER / name, part / name)
    claim(RunDir(str(tmp_path / "index_manifest.json")))
    with pytest.raises(UserError, match="is not empty"):
        claim(RunDir(str(tmp_path / "index_00000_index.faiss")))


def test_an_index_that_another_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "manifest.json").write_text('{"shards": [{"index": "../x/index.faiss"}]}')
    arguments = recipe(tmp_path / "given", tmp_path / "run")
    examples = ("examples.source=sample", f"examples.index={tmp_path}/notes", "examples.embedder.source=hashing")
    done = job("index", *arguments, *examples)
    refused(done, "examples.index: ", "is not empty (manifest.json)")
    assert sorted(contents(tmp_path / "notes")) == ["manifest.json"]


NAMES = st.sampled_from(
    [
        *("questions", "questions.new", "pending", "answers", "training", "merged", "adapters", "index", "building"),
        *("m", "tuned", "0", "00000", "notes.txt", "my.jsonl", "x.parquet", "submission.csv", "README.md", ".hidden"),
        *("voters.parquet", "verdicts.parquet", "fitted", "report.json", "config.json"),
    ]
)
TREES = st.lists(st.lists(NAMES, min_size=1, max_size=4).map("/".join), min_size=1, max_size=8, unique=True)


def plant(folder: Path, tree: list[str], keep: bool) -> dict[str, bytes]:
    """Write the files of a tree, and return those that could be; with `keep` none that a run writes."""
    planted = {}
    for name in tree:
        try:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if (keep and is_written(name)) or (folder / name).exists():
                continue
            (folder / name).write_text(name)
            planted[name] = name.encode()
        except (FileExistsError, NotADirectoryError):
            continue
    return planted


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=15)
@given(before=TREES, between=TREES)
def test_files_that_no_run_wrote_stay_as_they_are(before: list[str], between: list[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        planted = plant(folder / "of_user", before, keep=False)
        done = job("run", *recipe(folder / "given", folder / "of_user"))
        assert done.code == (2 if planted else 0)
        assert not planted or contents(folder / "of_user") == planted
        arguments = recipe(folder / "given", folder / "run")
        assert job("run", *arguments).code == 0
        planted = plant(folder / "run", between, keep=True)
        done = job("run", *arguments, "submission.blank=none")
        assert done.code in (0, 2), done.err
        assert planted.items() <= contents(folder / "run").items()


def test_leftovers_of_killed_jobs_go_once_they_are_old(tmp_path: Path) -> None:
    run = RunDir(str(tmp_path))
    old, new, other = (
        f"answers/m/.a.parquet.{'0' * 32}.part",
        f".recipe.yaml.{'1' * 32}.part",
        "answers/m/.draft.part",
    )
    for name in (old, new, other):
        run.write(name, b"half")
    for name in (old, other):
        os.utime(run.path(name), (0, os.path.getmtime(run.path(name)) - _STALE - 10))
    assert remove_leftovers(run) == 1
    assert sorted(contents(tmp_path)) == sorted([new, other])
