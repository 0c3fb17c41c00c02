"""Inputs from anyone, and the limits within which a job has to deal with each."""

import contextlib
import json
import multiprocessing
import resource
import signal
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType

from tests.support.processes import Run
from tests.support.runs import job

SECONDS = 10  # of processor time: how long an input takes depends on what else the machine does
_PATIENCE = 120  # seconds of a clock, after which what waits for something is said to hang
MEMORY = 2**30  # bytes above what the process has at its start
_MACHINE = 4 * MEMORY  # bytes that a process of its own may take at all

ROW = b'{"task_id": "a", "question": "q?", "choices": ["x", "y"], "answer": "A"}\n'
DEEP = b"[" * 100_000
NOISE = [
    *(b"", b"\0" * 100, b"\xff\xfe\xfd", b"{", b"[1, [2]]", b"null", b"3", b'"text"', b"{}", DEEP, b'{"a":' * 50_000),
    *(b"Infinity", b"-" * 1000, b"1e999", b"\x89PNG\r\n\x1a\n", b"PAR1" + b"\xff" * 60 + b"PAR1", ROW[:40]),
    *(b"\r\r\r\r", b"key: [unclosed", b"a: &a [*a]", b"? [", "\u2028\u202e".encode(), b"x" * 200_000),
    *(b"\n" * 200_000, b"\x1f\x8b\x08"),
]


@contextlib.contextmanager
def limits(seconds: float = SECONDS, memory: int = MEMORY) -> Iterator[None]:
    """Fail what takes more time or memory."""

    def late(_: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"over {seconds} s")

    before = {number: signal.signal(number, late) for number in (signal.SIGPROF, signal.SIGALRM)}
    with contextlib.suppress(OSError):  # Where the peak cannot be set back, only what exceeds the last peak is seen.
        Path("/proc/self/clear_refs").write_text("5")
    start = _peak()
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(_PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)
    grown = _peak() - start
    assert grown < memory, f"{grown:,} bytes more than at the start"


def _peak() -> int:
    """Return the most memory that this process has had in use."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def clean(done: Run) -> None:
    """Check that a job ended well, or with one line; a traceback is raised by `job` itself."""
    assert done.code in (0, 2), done.err
    assert done.code == 0 or done.err.count("\n") == 1, done.err
    assert done.code == 2 or not done.err
    assert "Traceback" not in done.out + done.err
    assert len(done.err) < 1500


def recipe(folder: Path, **changes: object) -> str:
    """Write a recipe that needs no engine, and return its path."""
    (folder / "good.jsonl").write_bytes(ROW)
    (folder / "good.csv").write_bytes(b"task_id,answer\na,A\n")
    given: dict[str, object] = {
        "out": str(folder / "run"),
        "questions": {"source": str(folder / "good.jsonl")},
        "voters": {"other": {"method": "submission", "source": str(folder / "good.csv")}},
    }
    (folder / "given.json").write_text(json.dumps(given | changes))
    return str(folder / "given.json")


def within_limits(name: str, *arguments: str) -> Run:
    """Run a job to its end within the limits, and check how it ended."""
    with limits():
        done = job(name, *arguments)
    clean(done)
    return done


def dry(folder: Path, *overrides: str) -> Run:
    """Plan a run of the good recipe with overrides."""
    return within_limits("run", recipe(folder), "--dry-run", *overrides)


def dry_apart(folder: Path, *overrides: str) -> Run:
    """Plan a run in a process of its own, which may be killed by its input, and whose memory is its own alone."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # Each process begins with all that is imported here.
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_apart, args=(sender, folder, overrides))
    process.start()
    sender.close()
    try:
        done = receiver.recv()
    except EOFError:
        raise AssertionError("the process was killed by its input") from None
    finally:
        process.join(1)
        process.kill()
    if isinstance(done, str):
        raise AssertionError(done)
    assert isinstance(done, Run)
    return done


def _apart(sender: "multiprocessing.connection.Connection", folder: Path, overrides: tuple[str, ...]) -> None:
    """Send what a job came to, or what was wrong with it."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + _MACHINE,) * 2)
    try:
        sender.send(dry(folder, *overrides))
    except BaseException as error:
        sender.send(f"{type(error).__name__}: {error}")


def weights(**tensors: object) -> bytes:
    """Return a safetensors file with these tensors and no data."""
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text


def model(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write the files of a model that says nothing, with some others in their places, and return its folder."""
    given = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": weights(), **files}
    for name, content in given.items():
        (folder / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "model" / name).write_bytes(content)
    return folder / "model"
