"""The run directory: whole files or none, one writer at a time, nothing outside it."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from codemmlu.errors import UserError, redact_credentials
from codemmlu.run_dir import RunDir
from codemmlu.run_dir.ownership import claim
from codemmlu.schema import Question, to_table
from tests.support.rows import question

TABLE = to_table([question("t1")], Question)
UNWRITABLE = pa.table({"interval": pa.nulls(1, pa.month_day_nano_interval())})  # Parquet has no such type


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """An empty run."""
    made = RunDir(str(tmp_path / "run"))
    made.create()
    return made


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The address of a bucket in an S3 on this machine."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket="runs")
        yield "s3://runs"
    server.stop()


def left_in(run: RunDir) -> list[str]:
    """Every file of a run, hidden ones included."""
    return sorted(str(path.relative_to(run.base)) for path in Path(run.base).rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["plain", "with blank", "100%20", "é#?", "a:b", "deep/er"])
def test_any_local_path_can_hold_a_run(tmp_path: Path, name: str) -> None:
    run = RunDir(str(tmp_path / name))
    run.create()
    run.write("answers/m/a.txt", b"here")
    assert (tmp_path / name / "answers/m/a.txt").read_bytes() == b"here"
    assert left_in(run) == ["answers/m/a.txt"]


def test_relative_paths_become_addresses_that_workers_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert RunDir("runs/x").address == str(tmp_path / "runs/x")
    assert RunDir("~/x").address == str(tmp_path / "x")


def test_a_file_address_is_a_local_directory(tmp_path: Path) -> None:
    run = RunDir(f"file://{tmp_path}/run")
    run.create()
    run.write("answers/m/a.txt", b"")
    assert run.address == str(tmp_path / "run")
    with run.lock(), pytest.raises(UserError), RunDir(run.address).lock():
        pass


@pytest.mark.parametrize("out", ["nope://bucket/run", "http://host/run"])
def test_an_address_that_nothing_writes_is_the_users_mistake(out: str) -> None:
    with pytest.raises(UserError, match=f"out: {out} is no writable address"):
        RunDir(out)


def test_a_file_in_the_way_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written") as error:
        RunDir(str(tmp_path / "file/run")).create()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "..", ""])
def test_nothing_is_written_outside(run: RunDir, name: str) -> None:
    with pytest.raises(ValueError, match="leaves the run directory"):
        run.write(name, b"")


def test_two_jobs_may_create_a_directory_at_once(tmp_path: Path) -> None:
    """One of thirty pairs removed the other's probe, when both had one name."""
    for attempt in range(60):
        runs = [RunDir(str(tmp_path / f"deep/{attempt}")) for _ in range(6)]
        with ThreadPoolExecutor(6) as beside:
            list(beside.map(RunDir.create, runs))
            list(beside.map(claim, runs))
        assert left_in(runs[0]) == [".codemmlu"]


def test_a_write_that_fails_leaves_what_was_there(run: RunDir) -> None:
    run.write_table("t.parquet", TABLE)
    with pytest.raises(pa.ArrowNotImplementedError):
        run.write_table("t.parquet", UNWRITABLE)
    assert left_in(run) == ["t.parquet"]
    assert run.read_table("t.parquet").equals(TABLE)


def test_a_writer_that_is_killed_leaves_no_half_file_to_read(run: RunDir) -> None:
    code = f"""
import os, signal
from codemmlu.run_dir import RunDir
run = RunDir({run.address!r})
with run._whole("answers/m/a.parquet") as sink:
    sink.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert len(left_in(run)) == 1  # the temporary one: there, and never taken for an answer
    assert run.files("answers/m") == []
    run.write_table("answers/m/a.parquet", TABLE)
    assert run.files("answers/m") == ["answers/m/a.parquet"]


def test_files_are_listed_by_name(run: RunDir) -> None:
    assert run.files("answers/m") == []
    for name in ("b", "a"):
        run.write_table(f"answers/m/{name}.parquet", TABLE)
    run.write("answers/m/notes.txt", b"")
    run.write("answers/m/deeper/c.parquet", b"")
    assert run.files("answers/m") == ["answers/m/a.parquet", "answers/m/b.parquet"]


def test_a_folder_can_be_cleared_and_need_not_be_there(run: RunDir) -> None:
    run.clear("pending/m")
    run.write("pending/m/0.parquet", b"")
    run.write("pending/n/0.parquet", b"")
    run.clear("pending/m")
    assert left_in(run) == ["pending/n/0.parquet"]


@pytest.mark.parametrize("metadata", [None, {"codemmlu.schema": "1"}, {"codemmlu.schema": "4"}])
def test_a_table_of_another_version_is_refused(run: RunDir, metadata: dict[str, str] | None) -> None:
    pq.write_table(TABLE.replace_schema_metadata(metadata), run.path("t.parquet"))
    says = "none" if metadata is None else metadata["codemmlu.schema"]
    with pytest.raises(UserError, match=f"t.parquet has schema {says}, this is 3; use another `out`"):
        run.read_table("t.parquet", columns=["task_id"])


def test_a_table_is_read_whole_or_by_column(run: RunDir) -> None:
    run.write_table("t.parquet", TABLE)
    assert run.read_table("t.parquet").equals(TABLE)
    assert run.read_table("t.parquet", columns=["line"]).column_names == ["line"]


def test_a_second_writer_is_refused_until_the_first_is_done(run: RunDir) -> None:
    with run.lock():
        with pytest.raises(UserError, match="another run is writing to") as error, RunDir(run.address).lock():
            pass
        assert run.address in str(error.value)
    with run.lock():
        pass


def test_a_writer_that_was_killed_holds_nothing(run: RunDir) -> None:
    code = f"""
from codemmlu.run_dir import RunDir
with RunDir({run.address!r}).lock():
    print("held", flush=True)
    input()
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(UserError, match="another run is writing"), run.lock():
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    with run.lock():
        pass


def test_a_run_in_an_object_store(bucket: str) -> None:
    run = RunDir(f"{bucket}/deep/run/")
    run.create()
    assert (run.address, run.is_local) == ("s3://runs/deep/run", False)
    assert run.files("answers/m") == []
    for name in ("b", "a"):
        run.write_table(f"answers/m/{name}.parquet", TABLE)
    run.write("submission.csv", b"task_id,answer\n")
    again = RunDir(run.address)
    assert again.files("answers/m") == ["answers/m/a.parquet", "answers/m/b.parquet"]
    assert again.read_table("answers/m/a.parquet").equals(TABLE)
    again.clear("answers/m")
    assert run.files("answers/m") == []


def test_a_failed_write_to_a_bucket_leaves_what_was_there(bucket: str) -> None:
    run = RunDir(f"{bucket}/other")
    run.write_table("t.parquet", TABLE)
    with pytest.raises(pa.ArrowNotImplementedError):
        run.write_table("t.parquet", UNWRITABLE)
    assert run.read_table("t.parquet").equals(TABLE)


@pytest.mark.usefixtures("bucket")
def test_a_bucket_that_is_not_there_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match=r"^out: s3://elsewhere/run cannot be written: ") as error:
        RunDir("s3://elsewhere/run").create()
    assert "\n" not in str(error.value)


def test_keys_and_options_of_addresses_are_hidden() -> None:
    text = "out: s3://KEY:SECRET@bucket/runs?region=x\nsource: data/*?.csv # a@b\ns3://b/part-?.csv\n"
    assert redact_credentials(text) == "out: s3://bucket/runs\nsource: data/*?.csv # a@b\ns3://b/part-?.csv\n"


def test_a_full_disk_is_said_with_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"out: .*/a\.bin cannot be written: the disk is full \(\d.* free\); make room"):
        RunDir(str(tmp_path)).write("a.bin", b"x")
    assert list(tmp_path.iterdir()) == []
