"""The look at a question file: jobs/check.py, and what --dry-run shows of it."""

import json
from pathlib import Path

from tests.support.asking import write
from tests.support.questions import questions_csv
from tests.support.runs import job


def test_one_screen_says_what_is_in_a_file(tmp_path: Path) -> None:
    rows = [
        {"stem": f"What is {n // 2}?", "opa": "one", "opb": "two", "key": n % 2, "why": "so", "passage": "Text."}
        for n in range(4)
    ]
    write(tmp_path / "quiz.jsonl", "".join(json.dumps(row) + "\n" for row in rows) + '{"stem": "Q", "opa": "a"}\n')
    done = job("check", str(tmp_path / "quiz.jsonl"), "questions.answers=zero-based", "questions.columns={answer: key}")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert len(lines) <= 40
    assert lines[0].endswith("quiz.jsonl, 4 with an answer, 1 rejected")
    assert "  columns used: answer: key; choices: opa, opb; context: passage; question: stem" in lines
    assert "  choices: 4 with 2" in lines
    assert "  answers: for example '0' is read as A" in lines
    assert "  columns that are not used: why" in lines
    assert "  2 questions repeat another one, text and choices alike: each is asked" in lines
    assert "  rejected, quiz.jsonl:5: 1 choice, where 2 to 26 can be asked" in lines
    assert "The first question as it is sent (quiz.jsonl:1; the right answer is A):" in lines
    assert "  | A. one" in lines


def test_json_has_the_columns_and_the_notes(tmp_path: Path) -> None:
    done = job("check", "--json", str(questions_csv(tmp_path / "q.csv", 3)))
    report = json.loads(done.out)
    assert (report["questions"], report["unused"], report["notes"]) == (3, [], [])
    assert report["columns"]["question"] == ["question"]


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    source = str(questions_csv(tmp_path / "q.csv", 3))
    for arguments, reason in (
        ([source, "questions.foo=1"], "error: questions.foo: there is no such key\n"),
        ([source, "models.m.source=x"], "error: 'models.m.source=x': only questions.key=value can be set here\n"),
        ([str(tmp_path / "no.csv")], f"error: questions.source: no file at {tmp_path / 'no.csv'};"),
    ):
        done = job("check", *arguments)
        assert done.code == 2
        assert done.err.startswith(reason)
        assert done.err.count("\n") == 1


def test_a_dry_run_shows_the_first_question(tmp_path: Path) -> None:
    source = questions_csv(tmp_path / "q.csv", 3)
    done = job("run", "recipes/demo.yaml", f"questions.source={source}", "--dry-run", f"out={tmp_path / 'run'}")
    assert "  columns used: answer: answer; choices: choices; question: question; task_id: task_id" in done.out
    assert "The first question as it is sent (q.csv:2" in done.out
