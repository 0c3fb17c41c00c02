"""Programs are taken out of questions, and mended where a page has damaged them."""

import pytest

from codemmlu.evidence.examples import examples_of
from codemmlu.evidence.extraction import extract
from codemmlu.sandbox import Limits, Program, SandboxMissing, open_sandbox
from tests.support.rows import question

LIMITS = Limits(seconds=40, cpu=10)


@pytest.mark.parametrize(
    ("text", "language", "printed"),
    [
        (
            "What is the output of this C code?\n  #include <stdio.h>    void main()    {   printf(“%d”, 7);  }",
            "c",
            "7",
        ),
        ('What is printed by this C code?\n#define N 7    int main() { printf("%d", N); }', "c", "7"),
        ('Output of the C program?\nint x = 7; printf("%d", x);', "c", "7"),
        ("What is the output of this Python code?\n>>>a = [1, 2]>>>a[1]", "python", "2"),
        ("What will be the output of the following Python code?\nx = 3\nprint x", "python", "3"),
        ("What is the output of this Python code?\nprint(1 &lt; 2)", "python", "True"),
        ("What is the output of this JavaScript code?\ndocument.write(1 + '1')", "javascript", "11"),
        ("What is the result of this JavaScript code?\nvar a = 2;\na * 3", "javascript", "6"),
        ("What is the output of this program?\n```bash\necho hi\n```", "bash", "hi"),
    ],
)
def test_a_damaged_program_runs(text: str, language: str, printed: str) -> None:
    try:
        sandbox = open_sandbox("bubblewrap")
    except SandboxMissing as missing:
        pytest.skip(str(missing))
    if language not in sandbox.languages():
        pytest.skip(f"{language}: no tool on this machine")
    first, *_ = extract(question("q", question=text, choices=("1", "2"), answer="A"))
    assert first.language == language
    assert sandbox.run(Program(language, first.source), LIMITS).printed.strip() == printed


@pytest.mark.parametrize("text", ["Why is the sky blue?", "What is the output of this R code?\nx <- 1", "C#?\nint x;"])
def test_what_cannot_be_run_is_left_alone(text: str) -> None:
    assert extract(question("q", question=text, choices=("1", "2"), answer="A")) == []


def test_examples_are_read_in_every_notation() -> None:
    lines = [">>> f(1)", "2", "f(2) => 4", "f(3) == 6", 'f("a") ➞ "aa"', "f(9) is fine"]
    text = "\n    ".join(["def f(x):", '"""Double.', *lines, '"""'])
    examples = examples_of(question("q", question=text, choices=("1", "2"), answer="A"))
    assert examples == [("f(1)", "2"), ("f(2)", "4"), ("f(3)", "6"), ('f("a")', '"aa"')]
