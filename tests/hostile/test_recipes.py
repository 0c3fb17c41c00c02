"""Recipes and overrides from anyone, and files that are no recipes."""

import os
from pathlib import Path

import pytest

from tests.support.hostile import NOISE, dry, recipe, within_limits

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
    done = within_limits("run", str(tmp_path / "r.yaml"), "--dry-run")
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
    done = within_limits("run", named, "--dry-run")
    assert done.code == 2


def test_a_lattice_of_cascades(tmp_path: Path) -> None:
    models = {"m": {"source": "scripted"}}
    voters: dict[str, object] = {f"v0.{side}": {"model": "m"} for side in "ab"}
    for level in range(1, 25):
        for side in "ab":
            of = [f"v{level - 1}.a", f"v{level - 1}.b"]
            voters[f"v{level}.{side}"] = {"model": "m", "when": {"of": of, "margin_below": 0.5}}
    within_limits("run", recipe(tmp_path, models=models, voters=voters), "--dry-run")


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
    dry(tmp_path, OVERRIDES[number])


@pytest.mark.parametrize(
    "out",
    ["x" * 300, "/".join(["y" * 200] * 30), "\0", "s3://", "s3:///x", "file://", "/dev/null/x", "/proc/x", "nope://x"],
)
def test_run_directories_that_cannot_be(tmp_path: Path, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = within_limits("vote", recipe(tmp_path, out=out))
    assert done.code == 2
