"""Damaged files of a run: set aside, said, and their questions asked again; no wrong answer is taken from one."""

import contextlib
import json
import random
import shutil
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codemmlu.errors import ProgressLine, UserError
from codemmlu.inference import answer_store
from codemmlu.inference.damage import set_aside
from codemmlu.run_dir import RunDir
from codemmlu.schema import Answer, to_table
from tests.support.processes import Run
from tests.support.rows import answer, question
from tests.support.runs import ScriptedRun, job, working_directory

EARLIER = Path(__file__).parents[1] / "fixtures" / "earlier_run"


class Lines(list[str]):
    """What is said."""

    say = list.append

    def progress(self, what: str, total: int, unit: str = "questions") -> AbstractContextManager[ProgressLine]:
        """Refuse a bar, which nothing here shows."""
        raise AssertionError

    def together(self) -> AbstractContextManager[None]:
        """Refuse threads, which nothing here starts."""
        raise AssertionError


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A copy of a run that has ended, in which every file can be damaged."""
    shutil.copytree(EARLIER, tmp_path / "of_before")
    return tmp_path / "of_before"


@pytest.fixture(autouse=True)
def _without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes most of a vote's time."""
    monkeypatch.setattr("codemmlu.report.figures.figures", lambda _: [])


FEWER = ("vote.fit=null", "voters={direct: {model: m}}")


def vote(folder: Path) -> Run:
    """Vote on what is there, without an engine."""
    with working_directory(folder):
        return job("vote", "recipe.yaml", *FEWER)


def damage(file: Path, kind: str) -> None:
    """Cut, empty or change a file."""
    content = file.read_bytes()
    changed = {
        "cut": content[: len(content) // 2],
        "empty": b"",
        "zeros": b"\0" * len(content),
        "list": b"[1, [2]]",
        "text": b'{"a": "b"}',
        "deep": b"[" * 100_000,
        "infinite": b'{"3": [Infinity, 0, 0]}',
        "not utf-8": b"\xff\xfe\xff",
    }
    file.write_bytes(changed[kind])


@pytest.mark.parametrize("kind", ["cut", "empty", "zeros", "text"])
def test_a_damaged_file_of_answers_is_set_aside(earlier: Path, kind: str) -> None:
    file = sorted((earlier / "run/answers/m").glob("*.parquet"))[0]
    damage(file, kind)
    lines = Lines()
    set_aside(RunDir(str(earlier / "run")), ["m"], lines)
    assert len(lines) == 1
    assert f"{file.name} is damaged (" in lines[0]
    assert f"kept as {file.name}.damaged, and its questions are asked again" in lines[0]
    assert file.with_name(f"{file.name}.damaged").exists()
    assert not file.exists()


@pytest.mark.parametrize("change", ["key", "fewer", "null", "column"])
def test_so_is_one_that_can_be_read_and_says_something_else(earlier: Path, change: str) -> None:
    file = sorted((earlier / "run/answers/m").glob("*.parquet"))[0]
    table = pq.read_table(file)
    names = table.column_names
    changed = {
        "key": lambda: table.set_column(names.index("key"), "key", pa.array(["no key"] * len(table))),
        "fewer": lambda: table.slice(1),
        "null": lambda: table.set_column(names.index("status"), "status", pa.nulls(len(table), pa.string())),
        "column": lambda: table.rename_columns([*names[:-1], "terror"]),
    }
    pq.write_table(changed[change]().replace_schema_metadata(table.schema.metadata), file)
    lines = Lines()
    set_aside(RunDir(str(earlier / "run")), ["m"], lines)
    assert len(lines) == 1, lines


@pytest.mark.parametrize("kind", ["empty", "list", "text", "deep", "infinite", "not utf-8"])
@pytest.mark.parametrize("name", ["pilot.json", "fitted/f35a59e4177e5e9ce91df516c24f9871.json"])
def test_so_is_every_other_file_that_a_run_keeps(earlier: Path, name: str, kind: str) -> None:
    damage(earlier / "run" / name, kind)
    lines = Lines()
    set_aside(RunDir(str(earlier / "run")), ["m"], lines)
    assert len(lines) == 1
    assert f"{name} is damaged (" in lines[0]
    assert (earlier / "run" / f"{name}.damaged").exists()


def test_a_whole_run_is_left_as_it_is(earlier: Path) -> None:
    lines = Lines()
    set_aside(RunDir(str(earlier / "run")), ["m", "retrieve"], lines)
    assert not lines


@pytest.fixture(scope="module")
def voted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with a report."""
    folder = tmp_path_factory.mktemp("voted") / "of_before"
    shutil.copytree(EARLIER, folder)
    done = vote(folder)
    assert done.code == 0, done.err
    return folder / "run"


@pytest.mark.parametrize("name", ["voters.parquet", "verdicts.parquet", "questions/000000.parquet", "report.json"])
@pytest.mark.parametrize("kind", ["cut", "empty", "zeros", "list", "deep"])
def test_a_damaged_file_is_one_line_of_the_report(voted: Path, name: str, kind: str, tmp_path: Path) -> None:
    shutil.copytree(voted, tmp_path / "run")
    damage(tmp_path / "run" / name, kind)
    done = job("report", str(tmp_path / "run"), str(tmp_path / "run"))
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert name in done.err


@pytest.mark.parametrize("obstacle", ["file", "loop"])
def test_what_stands_where_answers_belong_is_one_line(earlier: Path, obstacle: str) -> None:
    folder = earlier / "run/answers/m"
    shutil.rmtree(folder)
    if obstacle == "file":
        folder.write_text("")
    else:
        folder.symlink_to(folder)
    done = vote(earlier)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert "answers/m cannot be read as a folder" in done.err


def test_a_lock_that_is_a_directory_is_one_line(earlier: Path) -> None:
    (earlier / "run/.lock").mkdir()
    done = vote(earlier)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert ".lock cannot be opened: Is a directory" in done.err


def test_the_questions_of_a_damaged_file_are_asked_again(tmp_path: Path, ray_cluster: dict[str, str]) -> None:
    run = ScriptedRun(tmp_path, 12)
    assert run.run().code == 0
    before, file = run.report()["voters"], next((run.out / "answers/m").glob("*.parquet"))
    lost = pq.read_table(file).num_rows
    damage(file, "cut")
    done = run.run()
    assert done.code == 0, done.err
    assert sum(times == 2 for times in run.times_asked().values()) == lost
    assert run.report()["voters"]["direct"]["answered"] == before["direct"]["answered"] == 12


def test_a_flipped_bit_of_a_page_is_found(tmp_path: Path) -> None:
    """Without checksums of pages about one in thirteen changed an answer in silence."""
    run = RunDir(str(tmp_path))
    rows = [answer(question(f"t{i}")) for i in range(40)]
    name = f"answers/m/{answer_store.file_name(row.key for row in rows)}.parquet"
    run.write_table(name, to_table(rows, Answer))
    content, whole = (tmp_path / name).read_bytes(), run.read_table(name)
    draw, silent = random.Random(7), 0
    for _ in range(300):
        changed = bytearray(content)
        changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        (tmp_path / name).write_bytes(changed)
        lines = Lines()
        with contextlib.suppress(UserError):  # The version of the schema was hit.
            set_aside(run, ["m"], lines)
            silent += not lines and not run.read_table(name).equals(whole)
    assert silent <= 6, "2 %"


def test_a_file_without_checksums_is_read(tmp_path: Path) -> None:
    table = to_table([answer(question("t"))], Answer)
    pq.write_table(table, tmp_path / "a.parquet")
    assert RunDir(str(tmp_path)).read_table("a.parquet").equals(table)


def test_outputs_of_another_recipe_go_with_its_reports(earlier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the job of the changed recipe is killed before it has any of its own."""
    assert vote(earlier).code == 0

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("codemmlu.cli.outcome.evaluate", killed)
    with working_directory(earlier):
        assert job("vote", "recipe.yaml", "vote.fit=null", "voters={second: {model: m}}").code == 130
    assert "direct:" not in (earlier / "run/recipe.yaml").read_text()
    left = {file.name for file in (earlier / "run").iterdir()}
    assert not left & {"submission.csv", "voters.parquet", "verdicts.parquet", "report.json", "report.html"}
    assert json.loads((earlier / "run/pilot.json").read_text())
