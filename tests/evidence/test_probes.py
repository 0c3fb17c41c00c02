"""The probes: what is observed about a question, and which choice it speaks for."""

import pytest

from codemmlu.evidence import PROBES, Observation, Run
from codemmlu.sandbox import Sandbox, SandboxMissing, open_sandbox
from codemmlu.schema import Question
from tests.support.rows import question

ADD = 'Complete it.\n\ndef add(x, y):\n    """Add.\n    >>> add(1, 2)\n    3\n    """\n'
GAPPED = """It is missing a part.

Incomplete Solution:
def f(x):
    y = x
    ______________
    y += 1
    return y
"""
JUDGED = ("Compile Error", "Runtime Error", "No abnormally found", "Internal error")


def ask(text: str, *choices: str) -> Question:
    return question("q", question=text, choices=choices, answer="A")


@pytest.fixture
def sandbox() -> Sandbox:
    try:
        return open_sandbox()
    except SandboxMissing as missing:
        pytest.skip(str(missing))


def levels(method: str, asked: Question, sandbox: Sandbox | None) -> list[str] | None:
    """The most general level of each choice's feature, after the observation has been stored and read."""
    observation = PROBES[method].observe(asked, sandbox)
    assert observation is not None
    features = PROBES[method].features(asked, Observation.parse(observation.text()))
    return None if features is None else [feature[0] for feature in features]


def test_the_choice_after_the_gap_stands_out() -> None:
    asked = ask(GAPPED, "    y -= 1", "    y += 1", "    y = 2")
    assert levels("verbatim", asked, None) == ["absent", "after", "absent"]
    assert levels("verbatim", ask(GAPPED, "    y -= 1", "    y = 2"), None) is None
    assert PROBES["verbatim"].artefact


def test_choices_are_told_apart_by_how_they_look() -> None:
    asked = ask("What?", "10", "a longer text", "All of the above", "None of these", "a text  \n")
    features = PROBES["choices-only"].features(asked, Observation("", ()))
    assert features is not None
    assert [feature[1] for feature in features] == [
        "text, least long",
        "text, middle long",
        "all, most long",
        "none, middle long",
        "text, middle long",
    ]
    numbers = PROBES["choices-only"].features(ask("What?", "1", "12", "7"), Observation("", ()))
    assert numbers is not None
    assert [feature[0] for feature in numbers] == ["least number", "most number", "middle number"]
    assert PROBES["choices-only"].artefact


def test_examples_are_run_with_each_choice(sandbox: Sandbox) -> None:
    asked = ask(ADD, "return x - y", "    return x + y\n", "return")
    assert levels("execute", asked, sandbox) == ["fails", "all", "fails"]
    assert levels("execute", ask(ADD, "return x - y", "return 0"), sandbox) is None


def test_a_line_break_at_the_end_of_a_choice_changes_nothing(sandbox: Sandbox) -> None:
    for method in ("static", "execute"):
        first = PROBES[method].observe(ask(ADD, "    return x +", "    return x + y"), sandbox)
        second = PROBES[method].observe(ask(ADD, "    return x +\n", "    return x + y\n"), sandbox)
        assert first is not None
        assert second is not None
        assert [run.status for run in first.runs] == [run.status for run in second.runs]


def test_a_choice_that_breaks_the_program_is_found(sandbox: Sandbox) -> None:
    assert levels("static", ask(GAPPED, "    y -= 1", "    y -= ("), sandbox) == ["ok", "syntax"]


def test_a_name_that_nothing_defines_is_found(sandbox: Sandbox) -> None:
    observation = PROBES["static"].observe(ask("What happens?\nimport os\nprint(undefined_name)\n", *JUDGED), sandbox)
    assert observation == Observation("python", (Run("ok", "undefined_name"),))


def test_a_program_is_run_and_matched(sandbox: Sandbox) -> None:
    asked = ask("What is the output of this Python code?\nprint(6 * 7)", "6", "42", "67")
    assert levels("execute", asked, sandbox) == ["rival: same", "matches: same", "rival: same"]


def test_a_program_that_changes_has_no_output(sandbox: Sandbox) -> None:
    text = "What is the output of this Python code?\nimport random\nprint(random.random())"
    assert levels("execute", ask(text, "1", "2"), sandbox) is None
    assert levels("execute", ask(text, "1", "A random number"), sandbox) == [
        "rival: not defined",
        "matches: not defined",
    ]


def test_a_fault_of_the_program_counts_and_not_one_of_the_copy(sandbox: Sandbox) -> None:
    text = 'What is the output?\n#include <stdio.h>\nextern int v;\nint main() { v = 1; printf(\\"%d\\", v); }'
    assert levels("execute", ask(text, "Compile error", "1"), sandbox) == [
        "matches: names the error",
        "rival: names the error",
    ]


def test_a_function_of_another_c_library_is_defined(sandbox: Sandbox) -> None:
    text = 'What is the output?\n#include <stdio.h>\nint main() { char s[] = "abc"; puts(strrev(s)); return 0; }'
    assert levels("execute", ask(text, "abc", "cba"), sandbox) == ["rival: same", "matches: same"]


@pytest.mark.parametrize("printed", ["foo 1", "² ²", "1 1 1", "9999 9999", "1e1 1", "", "0 0", "2 2"])
def test_what_a_choice_prints_of_itself_is_not_believed(printed: str) -> None:
    runs = (Run("ok", printed), Run("ok", "1 1"), Run("ok", "0 1"))
    features = PROBES["execute"].features(ask(ADD, "a", "b", "c"), Observation("python", runs))
    assert features is not None
    assert [feature[0] for feature in features] == ["fails", "all", "fails"]


def test_a_question_of_another_kind_needs_no_tool() -> None:
    asked = ask("Which planet is red?", "Mars", "Venus")
    assert [PROBES[name].language(asked) for name in ("static", "execute", "verbatim")] == [None, None, None]
