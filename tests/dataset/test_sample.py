"""The sample set that comes with the package: its shape, and a run of every proof in sample_checks.yaml.

A proof is a program. One with `<<choice>>` in it runs once per choice: with the right one it exits 0, with any other it
fails. One without prints the right choice (or `expect`, where the choices are words about the output).
"""

import difflib
import itertools
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from codemmlu.dataset import QuestionStream
from codemmlu.dataset.files import SAMPLE
from codemmlu.dataset.hub import SUBJECTS
from codemmlu.recipe import QuestionSettings
from codemmlu.schema import Question, letters

CHECKS = Path(__file__).with_name("sample_checks.yaml")
SECONDS = 60  # for one program


@dataclass(frozen=True)
class Language:
    """How a program becomes a process: commands run in the folder that holds `file`, the last is the program itself."""

    file: str
    needs: str
    commands: tuple[tuple[str, ...], ...]


LANGUAGES = {
    "python": Language("p.py", sys.executable, ((sys.executable, "-I", "-S", "p.py"),)),
    "bash": Language("p.sh", "bash", (("bash", "p.sh"),)),
    "javascript": Language("p.js", "node", (("node", "p.js"),)),
    "c": Language("p.c", "gcc", (("gcc", "-std=c11", "-O0", "-o", "p", "p.c", "-lm"), ("./p",))),
    "cpp": Language("p.cpp", "g++", (("g++", "-std=c++17", "-o", "p", "p.cpp"), ("./p",))),
    "java": Language("Main.java", "javac", (("javac", "Main.java"), ("java", "-Xshare:auto", "Main"))),
}
# On every machine, and quick: of the others a compiler, or the start of node, takes most of a program's time.
EVERYWHERE = {"python", "bash"}


@dataclass(frozen=True)
class Check:
    """One proof of one question's answer."""

    question: Question
    run: str
    program: str
    expect: str | None = None


@dataclass(frozen=True)
class Ran:
    """How a program ended. A compiler that refuses it, or the end of its time, is a failure like any other."""

    ok: bool
    printed: str
    complaint: str


def sample() -> list[Question]:
    return [row for row in QuestionStream(QuestionSettings(source="sample")).rows() if isinstance(row, Question)]


def checks() -> list[Check]:
    by_id = {question.task_id: question for question in sample()}
    written: dict[str, dict[str, str]] = yaml.safe_load(CHECKS.read_text(encoding="utf-8"))
    return [Check(by_id[task_id], **fields) for task_id, fields in written.items()]


def kinds() -> list[tuple[str, str]]:
    """(kind, language) of each question: fields of the file that no reader needs."""
    read = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    return [(row["kind"], row["language"]) for row in read]


def test_every_question_is_accepted_and_labelled() -> None:
    loaded = QuestionStream(QuestionSettings(source="sample"))
    rows = list(loaded.rows())
    assert loaded.questions == loaded.labelled == len(rows) >= 120
    assert loaded.rejected == 0
    assert loaded.notes() == []
    assert loaded.most_choices == 6


def test_the_nine_subjects_are_there_in_the_papers_order() -> None:
    seen = list(dict.fromkeys(question.subject for question in sample()))
    assert seen == list(SUBJECTS)
    assert min(Counter(question.subject for question in sample()).values()) >= 10


def test_there_are_questions_of_two_to_six_choices() -> None:
    assert set(Counter(len(question.choices) for question in sample())) == {2, 3, 4, 5, 6}


def test_right_letters_are_spread_evenly() -> None:
    """By number of choices, since E can only be right where there are five; then over all questions."""
    for size, same_size in itertools.groupby(sorted(sample(), key=_size), key=_size):
        right = Counter(question.answer for question in same_size)
        counts = [right[letter] for letter in letters(size)]
        assert max(counts) - min(counts) <= 1, (size, right)
    found = Counter(question.answer for question in sample())
    for index, letter in enumerate(letters(6)):
        expected = sum(1 / _size(question) for question in sample() if index < _size(question))
        assert found[letter] == pytest.approx(expected, abs=2), letter


def _size(question: Question) -> int:
    return len(question.choices)


def test_several_languages_and_few_that_only_ask_what_is_printed() -> None:
    languages = Counter(language for _, language in kinds())
    assert {"python", "javascript", "java", "c", "cpp", "bash", "sql", "none"} <= set(languages)
    assert max(languages.values()) <= len(kinds()) / 3
    assert sum(kind == "prints" for kind, _ in kinds()) <= len(kinds()) / 3


def test_no_question_repeats_a_choice() -> None:
    for question in sample():
        assert len({choice.strip() for choice in question.choices}) == len(question.choices), question.task_id


def test_no_two_questions_are_alike() -> None:
    texts = {question.task_id: "\n".join((question.question, *question.choices)) for question in sample()}
    matcher = difflib.SequenceMatcher(autojunk=False)
    for number, one in enumerate(texts):
        matcher.set_seq2(texts[one])
        for other in list(texts)[:number]:
            matcher.set_seq1(texts[other])
            alike = matcher.real_quick_ratio() >= 0.9 and matcher.quick_ratio() >= 0.9 and matcher.ratio() >= 0.9
            assert not alike, (one, other)


def test_most_questions_have_a_check() -> None:
    assert {check.run for check in checks()} == set(LANGUAGES)
    assert len(checks()) >= 100


@pytest.mark.parametrize(
    "language", [pytest.param(name, marks=[] if name in EVERYWHERE else [pytest.mark.soak]) for name in LANGUAGES]
)
def test_every_proof_holds(language: str, tmp_path: Path) -> None:
    needs = LANGUAGES[language].needs
    if language not in EVERYWHERE and shutil.which(needs) is None:
        pytest.skip(f"no {needs} on this machine: the proofs in {language} were not run")
    ours = [check for check in checks() if check.run == language]
    with ThreadPoolExecutor(2) as pool:
        faults = list(pool.map(lambda check: list(_faults(check, tmp_path / check.question.task_id)), ours))
    assert ours
    assert not list(itertools.chain(*faults))


def test_a_wrong_key_fails_its_proof(tmp_path: Path) -> None:
    """The proofs would notice: with the next choice taken for the right one, each of a few of both kinds fails."""
    some = [check for check in checks() if check.run == "python"]
    with_blank = [check for check in some if "<<choice>>" in check.program][:3]
    printing = [check for check in some if "<<choice>>" not in check.program and check.expect is None][:3]
    for check in with_blank + printing:
        question = check.question
        names = letters(len(question.choices))
        assert question.answer is not None
        wrong = names[(names.index(question.answer) + 1) % len(names)]
        moved = Check(Question(**{**vars(question), "answer": wrong}), check.run, check.program)
        assert list(_faults(moved, tmp_path / question.task_id))


def _faults(check: Check, folder: Path) -> Iterator[str]:
    """What is wrong with a question's answer, one line each; nothing if its proof holds."""
    question = check.question
    assert question.answer is not None
    right = question.choices[letters(len(question.choices)).index(question.answer)]
    if "<<choice>>" in check.program:
        for number, choice in enumerate(question.choices):
            ran = _run(check.run, _filled(check.program, choice), folder / str(number))
            if ran.ok != (choice == right):
                yield f"{question.task_id}: choice {choice!r} {'passes' if ran.ok else 'fails'} {ran.complaint}"
        return
    ran = _run(check.run, check.program, folder)
    expected = right if check.expect is None else check.expect
    if not ran.ok or _words(ran.printed) != _words(expected):
        yield f"{question.task_id}: printed {ran.printed!r}, not {expected!r} {ran.complaint}"
    if check.expect is None and sum(_words(ran.printed) == _words(choice) for choice in question.choices) != 1:
        yield f"{question.task_id}: not exactly one choice is what was printed, {ran.printed!r}"


def _filled(program: str, choice: str) -> str:
    """The program with the choice in the blank; a choice of several lines is indented like the line it goes into."""
    lines = []
    for line in program.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        lines.append(line.replace("<<choice>>", choice.rstrip("\n").replace("\n", "\n" + indent)))
    return "\n".join(lines) + "\n"


def _run(name: str, program: str, folder: Path) -> Ran:
    language = LANGUAGES[name]
    folder.mkdir(parents=True)
    (folder / language.file).write_text(program, encoding="utf-8")
    printed = complaint = ""
    for command in language.commands:
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return Ran(False, "", f"ran for more than {SECONDS} s")
        printed, complaint = done.stdout, done.stderr[-300:]
        if done.returncode:
            return Ran(False, printed, complaint)
    return Ran(True, printed, complaint)


def _words(text: str) -> list[str]:
    return text.split()
