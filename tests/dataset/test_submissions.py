"""Submissions: another system's answers, as they come."""

from pathlib import Path

import pytest

from codemmlu.dataset import read_submission
from codemmlu.errors import UserError


def written(folder: Path, text: str) -> str:
    (folder / "theirs.csv").write_text(text)
    return str(folder / "theirs.csv")


def test_letters_by_task_id_and_none_is_no_answer(tmp_path: Path) -> None:
    text = "task_id,answer\nq1,A\nq2,(b)\nq3,None\nq4,\nq5, c. \n"
    told = read_submission(written(tmp_path, text), "voters.theirs.source")
    assert told.letters == {"q1": "A", "q2": "B", "q3": None, "q4": None, "q5": "C"}
    assert not told.notes


def test_what_is_no_letter_is_no_answer_and_is_said(tmp_path: Path) -> None:
    told = read_submission(written(tmp_path, "answer,task_id\nboth,q1\nA,q2\n"), "k")
    assert told.letters == {"q1": None, "q2": "A"}
    assert told.notes == {"answers that are no letter: counted as no answer": 1}


def test_the_same_answer_twice_is_one_and_two_are_refused(tmp_path: Path) -> None:
    told = read_submission(written(tmp_path, "task_id,answer\nq1,A\nq1,a\n"), "k")
    assert (told.letters, told.notes.total()) == ({"q1": "A"}, 1)
    with pytest.raises(UserError, match=r"k: .*theirs.csv:3: q1 is answered twice, with A and B; keep one of them"):
        read_submission(written(tmp_path, "task_id,answer\nq1,A\nq1,B\n"), "k")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("id,answer\nq1,A\n", "no column 'task_id'"),
        ("task_id,choice\nq1,A\n", "no column 'answer'"),
        ("task_id,answer\n", "has no rows"),
    ],
)
def test_what_is_no_submission_is_refused_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UserError, match=f"^voters.theirs.source: .*{says}"):
        read_submission(written(tmp_path, text), "voters.theirs.source")


def test_a_file_that_is_not_there_is_named_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^voters.theirs.source: "):
        read_submission(str(tmp_path / "none.csv"), "voters.theirs.source")


def test_rows_without_an_id_or_an_answer_are_said(tmp_path: Path) -> None:
    told = read_submission(written(tmp_path, "task_id,answer\nq1,A\n,B\n,C\nq2\n"), "k")
    assert told.letters == {"q1": "A", "q2": None}
    assert sorted(told.notes.items()) == [
        ("rows with fewer fields than the header: what is missing counts as empty", 1),
        ("rows without a task_id: passed over", 2),
    ]


def test_another_encoding_is_named_with_what_helps_here(tmp_path: Path) -> None:
    (tmp_path / "theirs.csv").write_bytes("task_id,answer\né,A\n".encode("cp1252"))
    with pytest.raises(UserError, match=r"^k: .*theirs.csv:2: byte b'\\xe9' is not utf-8-sig; save it as UTF-8$"):
        read_submission(str(tmp_path / "theirs.csv"), "k")
