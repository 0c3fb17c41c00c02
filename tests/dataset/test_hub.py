"""Questions from the Hub, against a small one that the test starts on this machine."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from codemmlu.dataset.hub import SUBJECTS
from tests.support.asking import parquet
from tests.support.dataset_hub import Commit, Hub, serving

Asked = dict[str, dict[str, Any]]  # settings by the name that a test knows them by
DATASET = "Fsoft-AIC/CodeMMLU"
PLAIN = "someone/quiz"
PARTS = "someone/parts"


def closed_port() -> int:
    """A port where no server answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


DOWN = f"http://127.0.0.1:{closed_port()}"

ZERO = {"answers": "zero-based"}
# Public benchmarks in the columns of their Hub datasets: rows, settings, and what is asked of each row.
PUBLIC: dict[str, tuple[list[dict[str, Any]], dict[str, Any], list[tuple[str, list[str], str]]]] = {
    "mmlu": (
        [{"question": "Q", "subject": "law", "choices": ["x", "y"], "answer": n} for n in (0, 1)],
        ZERO,
        [("Q", ["x", "y"], "A"), ("Q", ["x", "y"], "B")],
    ),
    "mmlu_pro": (
        [
            {
                "question_id": 7,
                "question": "Q",
                "options": ["x", "y"],
                "answer": "B",
                "answer_index": 1,
                "category": "law",
            }
        ],
        {},
        [("Q", ["x", "y"], "B")],
    ),
    "arc": (
        [{"id": "m", "question": "Q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"}],
        {},
        [("Q", ["x", "y"], "B")],
    ),
    "csqa": (
        [{"id": "m", "question": "Q", "choices": {"label": ["A", "B"], "text": ["x", "y"]}, "answerKey": "A"}],
        {},
        [("Q", ["x", "y"], "A")],
    ),
    "obqa": (
        [{"question_stem": "Q", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B", "fact1": "f"}],
        {},
        [("Q", ["x", "y"], "B")],
    ),
    "hellaswag": (
        [{"ctx_a": "c", "ctx": "c d", "endings": ["x", "y"], "label": label, "split": "test"} for label in "01"],
        ZERO,
        [("c d", ["x", "y"], "A"), ("c d", ["x", "y"], "B")],
    ),
    "race": (
        [{"example_id": "high1", "article": "Text.", "question": "Q", "options": ["x", "y"], "answer": "B"}],
        {},
        [("Text.\n\nQ", ["x", "y"], "B")],
    ),
    "medmcqa": (
        [{"id": str(n), "question": "Q", "opa": "x", "opb": "y", "cop": n, "exp": None} for n in (0, 1)],
        ZERO,
        [("Q", ["x", "y"], "A"), ("Q", ["x", "y"], "B")],
    ),
    "sciq": (
        [{"question": "Q", "distractor1": "x", "correct_answer": "y", "support": "It is y."}],
        {},
        [("Q", ["x", "y"], "B")],
    ),
    "gpqa": (
        [{"Question": "Q", "Correct Answer": "y", "Incorrect Answer 1": "x", "Explanation": "so"}],
        {},
        [("Q", ["x", "y"], "B")],
    ),
}

# HF_ENDPOINT is read when the client is imported, so a Hub needs a process of its own. It takes a list of settings on
# stdin and writes one line of JSON per settings: the rows, or the error that the user is told. The client moves to
# another Hub where the settings have an endpoint.
ASK = """
import dataclasses, json, sys
import huggingface_hub.constants
from codemmlu.errors import UserError
from codemmlu.dataset import QuestionStream
from codemmlu.recipe import QuestionSettings
for settings in json.load(sys.stdin):
    if endpoint := settings.pop("endpoint", None):
        huggingface_hub.constants.ENDPOINT = endpoint
    try:
        stream = QuestionStream(QuestionSettings(**settings))
        rows = [dataclasses.asdict(row) for row in stream.rows()]
        print(json.dumps({"rows": rows, "notes": stream.notes()}))
    except UserError as error:
        print(json.dumps({"error": str(error)}))
"""
ASKED: Asked = {
    "all": {},
    "one": {"subjects": ["code_repair"]},
    "two": {"subjects": ["others", "dbms_sql", "others"]},
    "tag": {"revision": "v0", "subjects": ["others"]},
    "no subject": {"subjects": ["others", "poetry"]},
    "no revision": {"revision": "v9"},
    "no split": {"split": "train"},
    "no dataset": {"source": "Fsoft-AIC/CodeMMMLU"},
    "plain": {"source": PLAIN},
    "plain one": {"source": PLAIN, "subjects": ["sql"]},
    "plain none": {"source": PLAIN, "subjects": ["sql", "c++"]},
    "parts": {"source": PARTS},
    "part": {"source": PARTS, "subjects": ["law"]},
    **{name: {"source": f"public/{name}", **settings} for name, (_, settings, _) in PUBLIC.items()},
    "page cut": {"revision": "broken", "subjects": ["others"]},
    "no parquet": {"revision": "broken", "subjects": ["code_repair"]},
    "down": {"endpoint": DOWN},  # the last one: the client stays there
}


@dataclass(frozen=True)
class Heard:
    """What came back from the Hub: rows or an error per asked settings, and what was on stderr."""

    answers: dict[str, dict[str, Any]]
    stderr: str

    def rows(self, name: str) -> list[dict[str, Any]]:
        assert "rows" in self.answers[name], self.answers[name]
        return list(self.answers[name]["rows"])

    def error(self, name: str) -> str:
        message = str(self.answers[name]["error"])
        assert len(message.splitlines()) == 1
        return message


def ask(endpoint: str, home: Path, asked: Asked, **env: str) -> Heard:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        input=json.dumps([{"source": DATASET, **settings} for settings in asked.values()]),
        env={**clean, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return Heard(dict(zip(asked, answers, strict=True)), done.stderr)


def repository(rows: int, subjects: tuple[str, ...] = SUBJECTS) -> Commit:
    """The dataset as its owners lay it out: a folder per subject, named as configurations in the card."""
    files = {}
    for subject in subjects:
        content = [
            {"task_id": f"{subject}-{n}", "question": f"Q{n}", "choices": ["a", "b", "c"], "answer": "C"}
            for n in range(rows)
        ]
        if subject == "fill_in_the_middle":
            content = [{**row, "problem_description": "Sum a list."} for row in content]
        files[f"{subject}/test-00000-of-00001.parquet"] = parquet(content)
    configs = "".join(
        f"- config_name: {subject}\n  data_files:\n  - split: test\n    path: {subject}/test-*\n"
        for subject in sorted(subjects)
    )
    return Commit({**files, "README.md": f"---\nlicense: mit\nconfigs:\n{configs}---\n# CodeMMLU\n".encode()})


def plain_repository() -> Commit:
    """A dataset without configurations, its subjects in a column."""
    row = {"question": "Q", "choices": ["a", "b"], "answer": "A"}
    return Commit({"test.parquet": parquet([{**row, "subject": "c"}, {**row, "subject": "sql"}])})


def overlapping_repository() -> Commit:
    """A dataset as MMLU is laid out: `all` holds the others, and one configuration has another split alone."""
    law, math = ({"question": f"Q {of}", "choices": ["a", "b"], "answer": "A"} for of in ("law", "math"))
    rows: dict[str, list[dict[str, Any]]] = {
        "all": [{**law, "subject": "the law"}, {**math, "subject": None}],
        "law": [law, law],
        "math": [math],
    }
    files = {f"{name}/test.parquet": parquet(content) for name, content in rows.items()}
    configs = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: test\n    path: {name}/test.parquet\n"
        for name in sorted(rows)
    )
    configs += "- config_name: extra\n  data_files:\n  - split: train\n    path: extra/train.parquet\n"
    card = f"---\nlicense: mit\nconfigs:\n{configs}---\n# Parts\n".encode()
    return Commit({**files, "extra/train.parquet": parquet([law]), "README.md": card})


def public_repositories() -> dict[str, dict[str, Commit]]:
    """Return the datasets of PUBLIC."""
    return {
        f"public/{name}": {"main": Commit({"test.parquet": parquet(rows)})} for name, (rows, _, _) in PUBLIC.items()
    }


@dataclass(frozen=True)
class Visit:
    """One process that asked a Hub for everything in ASKED, and the cache it left."""

    heard: Heard
    hub: Hub
    home: Path


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Visit:
    home = tmp_path_factory.mktemp("hub")
    good = repository(rows=2)
    page_cut = bytearray(good.files["others/test-00000-of-00001.parquet"])
    page_cut[4:60] = bytes(56)
    no_parquet = {"code_repair/test-00000-of-00001.parquet": b"PAR1 but not really"}
    broken = Commit({**good.files, **no_parquet, "others/test-00000-of-00001.parquet": bytes(page_cut)})
    revisions = {"main": good, "v0": repository(rows=1), "broken": broken}
    hub = Hub(
        {DATASET: revisions, PLAIN: {"main": plain_repository()}, PARTS: {"main": overlapping_repository()}}
        | public_repositories()
    )
    with serving(hub):
        return Visit(ask(hub.endpoint, home, ASKED), hub, home)


def test_the_hub_gives_every_subject_in_the_papers_order(visit: Visit) -> None:
    rows = visit.heard.rows("all")
    assert [(row["task_id"], row["subject"]) for row in rows] == [(f"{s}-{n}", s) for s in SUBJECTS for n in range(2)]
    assert [row["position"] for row in rows] == list(range(18))
    assert rows[3]["file"] == f"{DATASET}/api_frameworks/test"
    assert [row["line"] for row in rows[:3]] == [1, 2, 1]
    assert (rows[0]["question"], rows[0]["choices"], rows[0]["answer"]) == ("Q0", ["a", "b", "c"], "C")


def test_configurations_that_overlap_are_asked_once(visit: Visit) -> None:
    rows = visit.heard.rows("parts")
    assert [(row["question"], row["subject"]) for row in rows] == [
        ("Q law", "law"),
        ("Q law", "law"),
        ("Q math", "math"),
    ]
    notes = "\n".join(visit.heard.answers["parts"]["notes"])
    assert "1 x rows of all that law has too: asked once" in notes
    assert "1 x rows of all that math has too: asked once" in notes
    assert "configurations without the split test, passed over: extra" in notes
    assert [row["subject"] for row in visit.heard.rows("part")] == ["law", "law"]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_benchmark_is_read_from_the_hub(visit: Visit, name: str) -> None:
    rows, expected = visit.heard.rows(name), PUBLIC[name][2]
    assert [row["question"] for row in rows] == [question for question, _, _ in expected]
    assert [sorted(row["choices"]) for row in rows] == [choices for _, choices, _ in expected]
    # The right text, as the order of the choices of SciQ and GPQA is drawn.
    right = [row["choices"]["AB".index(row["answer"])] for row in rows]
    assert right == [choices["AB".index(answer)] for _, choices, answer in expected]


def test_fill_in_the_middle_starts_with_its_problem(visit: Visit) -> None:
    by_id = {row["task_id"]: row["question"] for row in visit.heard.rows("all")}
    assert by_id["fill_in_the_middle-1"] == "Sum a list.\n\nQ1"
    assert by_id["code_repair-1"] == "Q1"


def test_subjects_are_read_in_the_order_named_and_once(visit: Visit) -> None:
    assert [row["task_id"] for row in visit.heard.rows("one")] == ["code_repair-0", "code_repair-1"]
    assert [row["task_id"] for row in visit.heard.rows("two")] == [
        "others-0",
        "others-1",
        "dbms_sql-0",
        "dbms_sql-1",
    ]


def test_a_revision_is_read(visit: Visit) -> None:
    assert [(row["task_id"], row["file"]) for row in visit.heard.rows("tag")] == [
        ("others-0", f"{DATASET}@v0/others/test")
    ]


def test_what_the_hub_does_not_have_is_an_error(visit: Visit) -> None:
    subjects = ", ".join(SUBJECTS)
    assert visit.heard.error("no subject") == (
        f"questions.subjects: {DATASET} has no 'poetry'; its subjects: {subjects}"
    )
    assert visit.heard.error("no revision") == f"questions.revision: the Hub dataset {DATASET} has no revision 'v9'"
    assert visit.heard.error("no split") == (
        f"questions.source: the Hub dataset {DATASET}, split train cannot be read: "
        "Unknown split \"train\". Should be one of ['test']."
    )
    assert visit.heard.error("no dataset").startswith(
        "questions.source: there is no file Fsoft-AIC/CodeMMMLU and no such dataset on the Hub"
    )


@pytest.mark.parametrize(
    ("name", "subject", "reason"),
    [
        ("page cut", "others", "Couldn't deserialize thrift"),
        ("no parquet", "code_repair", "Parquet magic bytes not found"),
    ],
)
def test_a_broken_file_of_the_hub_is_an_error(visit: Visit, name: str, subject: str, reason: str) -> None:
    start = f"questions.source: the Hub dataset {DATASET}@broken, {subject}, split test cannot be read: "
    assert visit.heard.error(name).startswith(start + reason)


def test_the_hub_is_read_quietly_and_each_file_once(visit: Visit) -> None:
    of_the_broken_file = "Failed to read schema from "
    assert [line for line in visit.heard.stderr.splitlines() if not line.startswith(of_the_broken_file)] == []
    main = visit.hub.datasets[DATASET]["main"]
    asked = [request for request in visit.hub.requests if request.startswith("GET") and main.sha in request]
    assert sum(request.endswith("/others/test-00000-of-00001.parquet") for request in asked) == 1


def test_without_configurations_subjects_are_a_column(visit: Visit) -> None:
    named = [(row["task_id"], row["subject"]) for row in visit.heard.rows("plain")]
    assert named == [("test:1", "c"), ("test:2", "sql")]
    assert [row["position"] for row in visit.heard.rows("plain one")] == [1]
    assert visit.heard.error("plain none") == f"questions.subjects: {PLAIN} has no 'c++'; its subjects: c, sql"


def test_offline_the_cache_is_read(visit: Visit) -> None:
    asked: Asked = {
        "first": {"limit": 3},
        "one": {"subjects": ["code_repair"]},
        "revision": {"revision": "main"},
        "unknown": {"source": "someone/else"},
    }
    heard = ask("http://127.0.0.1:9", visit.home, asked, HF_HUB_OFFLINE="1")
    names = [row["task_id"] for row in heard.rows("first")]
    assert names == ["programming_syntax-0", "programming_syntax-1", "api_frameworks-0"]
    assert [row["task_id"] for row in heard.rows("one")] == ["code_repair-0", "code_repair-1"]
    assert heard.error("revision").startswith("questions.revision: the cache does not say which it holds")
    assert heard.error("unknown").startswith("questions.source: the Hub dataset someone/else")


def test_a_hub_that_is_down_is_said(visit: Visit) -> None:
    assert visit.heard.error("down") == (
        f"questions.source: the Hub dataset {DATASET} cannot be read from {DOWN}: [Errno 111] Connection refused"
    )
