"""Kinds of questions follow from the form of the text; what no rule knows is knowledge."""

import pytest

from codemmlu.dataset.kind import KindRules, kind_of, outcome_of
from tests.support.rows import question

JUDGED = ("Time Limit Exceeded", "Internal error", "Runtime Error", "No abnormally found")
GAPPED = (
    "The solution is missing a part.\n\nIncomplete Solution:\ndef f(x):\n    y = x\n    _______________\n    return y\n"
)


@pytest.mark.parametrize(
    ("text", "choices", "kind"),
    [
        ("Which planet is red?", ("Mars", "Venus"), "knowledge"),
        ("The keyword _____ opens a class.", ("class", "def"), "knowledge"),
        ("What happens when it is run?\nint main() { return 0; }", JUDGED, "defect"),
        (GAPPED, ("    y += 1", "    y -= 1"), "fill_in_the_middle"),
        (
            'Complete it.\n\ndef add(x, y):\n    """Add.\n    >>> add(1, 2)\n    3\n    """\n',
            ("return x", "return y"),
            "completion",
        ),
        (
            "Find the bug.\n1 def f():\n2     return 0",
            ("Modify line 2:\n```return 1```", "Modify line 1:\n```x```"),
            "repair",
        ),
        ("What will be the output of the following C code?\n#include <stdio.h>\nint main() {}", ("1", "2"), "output"),
        ('#include <stdio.h>\nint main() { printf("1"); }\n\n``````C', ("1", "2"), "output"),
        ("What is the value of x?\nx = 1", ("1", "2"), "output"),
        ("What does a compiler print?", ("errors", "money"), "knowledge"),
    ],
)
def test_a_kind_follows_from_the_form(text: str, choices: tuple[str, ...], kind: str) -> None:
    assert kind_of(question("q", question=text, choices=choices, answer="A")) == kind


def test_an_outcome_is_a_short_choice() -> None:
    assert outcome_of("Compile Error") == "compile"
    assert outcome_of("No abnormally found") == "normal"
    assert outcome_of("It is a compile error as the variable is not declared before its use in line 3") is None
    assert outcome_of("42") is None


def test_a_recipe_names_kinds_by_patterns() -> None:
    rules = KindRules((("sql", r"(?i)\bselect\b"), ("printing", "print")))
    asked = question("q", question="What is the output of this program?\nprint(1)", choices=("1", "2"))
    assert rules.kind_of(asked) == "printing"
    assert rules.kind_of(question("q", question="SELECT 1, printed")) == "sql"
    assert rules.kind_of(question("q", question="Which planet is red?")) == "knowledge"
    assert KindRules().kind_of(asked) == kind_of(asked) == "output"
    assert rules.names[:3] == ("sql", "printing", "knowledge")


def test_a_pattern_of_a_recipe_takes_linear_time() -> None:
    rules = KindRules((("slow", "(a|a|aa)*b"),))
    assert rules.kind_of(question("q", question="a" * 50_000)) == "knowledge"
