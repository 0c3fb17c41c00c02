"""Inputs from anyone: each ends within seconds, with an answer or with one line that says what is wrong."""

import contextlib
import json
import os
import signal
import struct
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.processes import Run
from tests.support.runs import job

SECONDS = 10
ROW = b'{"task_id": "a", "question": "q?", "choices": ["x", "y"], "answer": "A"}\n'
DEEP = b"[" * 100_000
NOISE = [
    *(b"", b"\0" * 100, b"\xff\xfe\xfd", b"{", b"[1, [2]]", b"null", b"3", b'"text"', b"{}", DEEP, b'{"a":' * 50_000),
    *(
        b"Infinity",
        b"-" * 1000,
        b"1e999",
        b"\x89PNG\r\n\x1a\n",
        b"PAR1" + b"\xff" * 60 + b"PAR1",
        ROW[:40],
        b"\r\r\r\r",
    ),
    *(
        b"key: [unclosed",
        b"a: &a [*a]",
        b"? [",
        "\u2028\u202e".encode(),
        b"x" * 200_000,
        b"\n" * 200_000,
        b"\x1f\x8b\x08",
    ),
]


@contextlib.contextmanager
def limit(seconds: int = SECONDS) -> Iterator[None]:
    """Fail what takes longer."""

    def late(_: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"over {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


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


def dry(folder: Path, *overrides: str) -> Run:
    """Plan a run within the limit."""
    with limit():
        return job("run", recipe(folder), "--dry-run", *overrides)


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet", "csv.gz", "jsonl.bz2", "jsonl.zst"])
@pytest.mark.parametrize("number", range(len(NOISE)))
def test_questions(tmp_path: Path, ending: str, number: int) -> None:
    (tmp_path / f"q.{ending}").write_bytes(NOISE[number])
    done = dry(tmp_path, f"questions.source={tmp_path}/q.{ending}")
    clean(done)
    assert done.code == 2, "there is no question in it"


VALUES: dict[str, tuple[object, ...]] = {
    "choices": (
        *([], [[]], {}, "", "[", "('a'", "['a' 'b']", 3, True, None, ["x"] * 27, "A" * 99999, [{}, {}]),
        *("[" + "9" * 5000 + ", 1]", "[" * 2000, "-" * 3000 + "1"),
    ),
    "question": ("", " ", [], {}, "\ud800", "\0", "\u202e", "x" * 10**6),
    "answer": ("", "Z", "A" * 500, " " * 99999, [], {}, 1e300, True, "\ud800", "answer" * 5000),
    "task_id": ("", [], {}, "\0", "../../x", "\ud800", "a\nb", "x" * 10**5, True),
    "subject": ([], {}, "\0", "\ud800"),
}
ROWS: list[dict[str, object]] = [{name: value} for name, values in VALUES.items() for value in values]
ROWS += [{"A": "x"}, {"TASK_ID": "b"}, {"": ""}, {"\0": "\0"}, {"option_a": "x", "option_1": "y"}]


@pytest.mark.parametrize("number", range(len(ROWS)))
def test_a_row_of_questions(tmp_path: Path, number: int) -> None:
    row = {"task_id": "b", "question": "q?", "choices": ["x", "y"], "answer": "A"} | ROWS[number]
    (tmp_path / "q.jsonl").write_bytes(ROW + json.dumps(row).encode() + b"\n")
    done = dry(tmp_path, f"questions.source={tmp_path}/q.jsonl")
    clean(done)
    assert done.code == 0, "one bad row stops nothing"


PARQUET = {
    "struct twice": pa.table({"choices": pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])}),
    "column twice": pa.table([pa.array(["a"]), pa.array(["b"])], names=["question", "question"]),
    "no rows": pa.table({"question": pa.array([], pa.string())}),
    "no columns": pa.table({}),
    "nulls": pa.table({"question": pa.nulls(10), "choices": pa.nulls(10)}),
    "maps": pa.table({"question": ["q"], "choices": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))}),
    "dates": pa.table({"question": ["q"], "choices": pa.array([[2**40, 1]], pa.list_(pa.timestamp("s")))}),
    "decimals": pa.table({"question": ["q"], "choices": pa.array([[1, 2]], pa.list_(pa.int8()))}),
    "bytes": pa.table({"question": [b"\xff"], "choices": [[b"\xff", b"\xfe"]]}),
}


@pytest.mark.parametrize("name", PARQUET)
def test_questions_in_parquet(tmp_path: Path, name: str) -> None:
    pq.write_table(PARQUET[name], tmp_path / "q.parquet")
    clean(dry(tmp_path, f"questions.source={tmp_path}/q.parquet"))


@pytest.mark.parametrize("number", range(len(NOISE)))
def test_submissions(tmp_path: Path, number: int) -> None:
    (tmp_path / "s.csv").write_bytes(NOISE[number])
    done = dry(tmp_path, f"voters.other.source={tmp_path}/s.csv")
    clean(done)
    assert done.code == 2


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
RECIPES = [
    *(content.decode("latin-1") for content in NOISE),
    LAUGHS,
    LAUGHS + "out: x\nvoters: {}\nmodels: {m: {source: embedded, engine: {a: *a39}}}\n",
    "a: &a {b: *a}\n",
    "".join(f"k{n}: 1\n" for n in range(20_000)),
    "a: 1\na: 2\n",
    "{[a]: b}",
    "!!python/object/apply:os.system [id]",
    "!!binary x",
    "out: 2024-13-45",
    "out: 0x" + "f" * 5000,
    "? " * 500,
    "- " * 5000,
    "out: x\nvoters: {v: {when: {of: [v]}}}",
    'out: "\\ud800"\nvoters: {}',
    'out: x\nsubmission: {blank: "\\ud800"}\nvoters: {}',
]


@pytest.mark.parametrize("number", range(len(RECIPES)))
def test_recipes(tmp_path: Path, number: int) -> None:
    (tmp_path / "r.yaml").write_text(RECIPES[number], encoding="latin-1" if number < len(NOISE) else "utf-8")
    with limit():
        done = job("run", str(tmp_path / "r.yaml"), "--dry-run")
    clean(done)
    assert done.code == 2


@pytest.mark.parametrize("kind", ["folder", "fifo", "loop", "zero", "missing", "nul", "long", "huge"])
def test_what_is_no_recipe(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "r.yaml"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "huge":
        path.write_text("a: b\n" * 100_000)
    named = {"zero": "/dev/zero", "nul": "a\0b", "long": "x" * 5000}.get(kind, str(path))
    with limit():
        done = job("run", named, "--dry-run")
    clean(done)
    assert done.code == 2


def test_a_lattice_of_cascades(tmp_path: Path) -> None:
    models = {"m": {"source": "scripted"}}
    voters: dict[str, object] = {f"v0.{side}": {"model": "m"} for side in "ab"}
    for level in range(1, 25):
        for side in "ab":
            of = [f"v{level - 1}.a", f"v{level - 1}.b"]
            voters[f"v{level}.{side}"] = {"model": "m", "when": {"of": of, "margin_below": 0.5}}
    with limit():
        clean(job("run", recipe(tmp_path, models=models, voters=voters), "--dry-run"))


OVERRIDES = [
    *(
        "",
        "=",
        "=x",
        "a",
        "a=b",
        ".=x",
        "a..b=c",
        "out=",
        "out=[]",
        "out={}",
        "out=null",
        "out=s3://",
        "out=gs://",
        "out=file://",
    ),
    *(
        "seed=-1",
        "seed=1e99",
        "seed=" + "9" * 5000,
        "seed=.nan",
        "seed=true",
        "seed=[1]",
        "questions.limit=0",
        "voters=",
        "voters=[x]",
    ),
    *(
        "questions=x",
        "questions.source=",
        "questions.source=/",
        "questions.source=/dev/null.csv",
        "questions.source=" + "*/" * 200,
    ),
    *(
        "questions.source=" + "x" * 5000 + ".csv",
        "questions.source=[z-a].csv",
        "questions.source=nope://x/y.csv",
        "questions.source=http://x/y.csv",
    ),
    *(
        "questions.encoding=punycode",
        "questions.encoding=idna",
        "questions.encoding=undefined",
        "questions.encoding=rot13",
        "questions.encoding=x",
    ),
    *(
        "questions.columns={question: nope}",
        "questions.columns={x: y}",
        "questions.subjects=[nope]",
        "questions.holdout.n=1",
        "questions.holdout={}",
    ),
    *(
        "questions.max_line_mib=0",
        "questions.max_field_mib=1e30",
        "models={a/b: {source: embedded}}",
        "models={m: {source: 3}}",
        "models={m: x}",
    ),
    *(
        'submission.blank="\\ud800"',
        "submission.blank=[]",
        "vote.rule=nope",
        "vote.rule=stacked",
        "vote.margin=.inf",
        "vote.order=[x]",
        "vote.part=0",
    ),
    *(
        "voters.other.source=",
        "voters.other.source=/",
        "voters.other.method=nope",
        "voters.vote={method: submission, source: x}",
        "gpus=x",
        "report.x=1",
    ),
    *(
        "examples.source=/nope.csv",
        "examples.shard=0",
        "examples.kind=x",
        "examples.embedder.source=/nope",
        "finetune={}",
        "finetune.model=x",
    ),
    *(
        "a=" + "[" * 5000,
        "a=&a [*a]",
        "a=!!python/name:os.system",
        "a={" + "b: {" * 300,
        "voters.x.y.z.q.r.s.t=1",
        "x" * 10_000 + "=1",
        "a.b=\x00",
    ),
]


@pytest.mark.parametrize("number", range(len(OVERRIDES)))
def test_overrides(tmp_path: Path, number: int) -> None:
    clean(dry(tmp_path, OVERRIDES[number]))


@pytest.mark.parametrize(
    "out",
    ["x" * 300, "/".join(["y" * 200] * 30), "\0", "s3://", "s3:///x", "file://", "/dev/null/x", "/proc/x", "nope://x"],
)
def test_run_directories_that_cannot_be(tmp_path: Path, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with limit():
        done = job("vote", recipe(tmp_path, out=out))
    clean(done)
    assert done.code == 2


def test_a_loop_of_links_and_a_glob_that_has_many_ways(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "data")
    (tmp_path / "data" / ("a" * 200)).write_bytes(b"")
    for pattern in (
        "**/*.jsonl",
        "**/a/**/b/**/*.jsonl",
        "a*" * 30 + "b.jsonl",
        "**a" * 20 + ".jsonl",
        "**/" * 30 + "*.jsonl",
    ):
        done = dry(tmp_path, f"questions.source={tmp_path}/data/{pattern}")
        clean(done)
        assert done.code == 2


def header(**tensors: object) -> bytes:
    """Return a safetensors file with these tensors and no data."""
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text


SPANS: tuple[object, ...] = ([-1, 4], [0, 10**30], [4, 0], [0], "ab", None, {})
WEIGHTS = [
    *(header(w={"dtype": "F32", "shape": [1], "data_offsets": span}) for span in SPANS),
    *(
        header(w={"dtype": "F32", "shape": [1], "data_offsets": [float("inf"), 1]}),
        header(w=3),
        header(),
        b"",
        b"\xff" * 8,
    ),
    *(struct.pack("<Q", 4) + text for text in (b"[[[[", b"null", b"3.14", b"\xff\xff\xff\xff")),
    struct.pack("<Q", len(DEEP)) + DEEP,
    struct.pack("<Q", 2**62),
]


@pytest.mark.parametrize("number", range(len(WEIGHTS)))
@pytest.mark.parametrize("use", ["model", "embedder"])
def test_weights(tmp_path: Path, number: int, use: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(WEIGHTS[number])
    if use == "model":
        done = dry(tmp_path, f"models.m.source={folder}", "voters.v.model=m")
    else:
        done = dry(
            tmp_path,
            f"examples.embedder.source={folder}",
            f"examples.source={tmp_path}/good.jsonl",
            "voters.v.method=retrieve",
        )
    clean(done)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "chat_template.json"])
@pytest.mark.parametrize("number", range(len(NOISE)))
def test_files_of_a_model(tmp_path: Path, name: str, number: int) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(header())
    (folder / name).write_bytes(NOISE[number])
    clean(dry(tmp_path, f"models.m.source={folder}", "voters.v.model=m"))


def test_weights_that_are_a_pipe(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    os.mkfifo(folder / "model.safetensors")
    done = dry(tmp_path, f"models.m.source={folder}", "voters.v.model=m")
    clean(done)
    assert done.code == 2


@pytest.mark.parametrize("name", ["adapter_config.json", "manifest.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("number", range(len(NOISE)))
def test_files_of_an_adapter(tmp_path: Path, name: str, number: int) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 8}')
    (folder / "adapter_model.safetensors").write_bytes(header())
    (folder / name).write_bytes(NOISE[number])
    clean(dry(tmp_path, "models.m.source=scripted", "voters.v={model: m}", f"voters.v.adapter={folder}"))


@pytest.mark.parametrize("number", range(len(NOISE)))
def test_scripts(tmp_path: Path, number: int) -> None:
    (tmp_path / "script.yaml").write_bytes(NOISE[number])
    clean(dry(tmp_path, f"models.m.source='scripted:{tmp_path}/script.yaml'", "voters.v.model=m"))


@pytest.mark.parametrize("number", range(len(NOISE)))
def test_manifests_of_an_index(tmp_path: Path, number: int) -> None:
    folder = tmp_path / "index"
    folder.mkdir()
    (folder / "manifest.json").write_bytes(NOISE[number])
    with limit():
        index = (f"examples.index={folder}", "examples.embedder.source=hashing", "voters.v.method=retrieve")
        done = job("vote", recipe(tmp_path), *index)
    clean(done)
    assert done.code == 2


def test_there_are_many() -> None:
    several = (
        len(NOISE) * (6 + 1 + 3 + 3 + 1 + 1)
        + len(ROWS)
        + len(PARQUET)
        + len(RECIPES)
        + len(OVERRIDES)
        + 2 * len(WEIGHTS)
    )
    assert several >= 200
