"""Contradictions: a key that a program's own output or a compiler speaks against, and keys that they bear out."""

from pathlib import Path

import pytest

from codemmlu.errors import UserError
from codemmlu.evidence import Observation, Run
from codemmlu.run_dir import RunDir
from codemmlu.sandbox import SandboxMissing, open_sandbox
from codemmlu.schema import Question
from codemmlu.training import contradictions
from codemmlu.training.contradictions import contradicting, find_contradictions
from tests.support.rows import question

PRINTS = "What is the output of this program?\n\n```python\nprint(2 + 3)\n```"
DEFECT = "Judge this program.\nSolution:\npublic class Main { public static void main(String[] a) { int x = ; } }\n"
OUTCOMES = ("No abnormally found", "Compile Error", "Runtime Error", "Time Limit Exceeded")


class Silent:
    """A reporter that counts its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def prints(answer: str) -> Question:
    return question(f"key-{answer}", question=PRINTS, choices=("4", "5", "23", "6"), answer=answer)


def test_what_a_program_prints_speaks_against_another_key(tmp_path: Path) -> None:
    try:
        sandbox = open_sandbox()
    except SandboxMissing as missing:
        pytest.skip(str(missing))
    if "python" not in sandbox.languages():
        pytest.skip("there is no Python in the sandbox")
    run, said = RunDir(str(tmp_path)), Silent()
    examples = [prints("B"), prints("C"), question("fact")]
    (found,) = find_contradictions(run, said, examples)  # type: ignore[arg-type]
    assert (found.task_id, found.key, found.tool, found.method) == ("key-C", "C", "B", "execute")
    assert find_contradictions(run, said, examples) == [found]  # type: ignore[arg-type]
    assert len(said.lines) == 1, "what was found is kept, and no tool looks again"


def observed(status: str, language: str = "java") -> Observation:
    return Observation(language, (Run(status),))


@pytest.mark.parametrize(
    ("status", "language", "key", "says"),
    [
        ("compile_error", "java", "A", ""),
        ("compile_error", "java", "B", None),
        ("compile_error", "c", "A", None),
        ("ok", "java", "A", None),
        ("unsupported", "java", "A", None),
    ],
)
def test_what_does_not_compile_does_not_end_normally(status: str, language: str, key: str, says: str | None) -> None:
    defect = question("t1", question=DEFECT, choices=OUTCOMES, answer=key)
    assert contradicting(defect, "static", observed(status, language), ()) == says


def test_only_what_matches_word_for_word_speaks_against_a_key() -> None:
    one = prints("C")
    features = [
        ("rival: same numbers",),
        ("matches: same numbers",),
        ("rival: same numbers",),
        ("rival: same numbers",),
    ]
    assert contradicting(one, "execute", observed("ok", "python"), features) is None
    exact = [(feature[0].replace(" numbers", ""),) for feature in features]
    assert contradicting(one, "execute", observed("ok", "python"), exact) == "B"
    assert contradicting(prints("B"), "execute", observed("ok", "python"), exact) is None


def test_without_a_sandbox_nothing_is_left_out_in_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise SandboxMissing("none")

    monkeypatch.setattr(contradictions, "open_sandbox", missing)
    with pytest.raises(UserError, match=r"finetune\.contradicted: .* none works here"):
        find_contradictions(RunDir(str(tmp_path)), Silent(), [])  # type: ignore[arg-type]
