"""Questions come from anywhere: no text takes the patterns that read it longer than its length warrants."""

import time

import pytest

from codemmlu.dataset.kind import GAP, kind_of
from codemmlu.evidence import PROBES
from codemmlu.evidence.examples import examples_of
from codemmlu.evidence.extraction import extract, language_of
from codemmlu.evidence.repairs import REPAIRS
from codemmlu.evidence.static import filled
from tests.support.rows import question

SIZE = 60_000
UNITS = (
    *("\n", " ", "\t", "code: ", "//", "<br", "f(", "#define ", "#include<", "import ", "print(", "print x ", "for x "),
    *(
        "in ",
        "class A",
        "function(",
        "SELECT ",
        "while x\n",
        "```",
        "``` ",
        "<p ",
        "_____ ",
        "[1,\n",
        ">>> f(1)\n[\n",
        ". ",
    ),
    *("int strrev(", "def f(x):\n", "$a", "a", "Question: "),
)
# Where a run of blanks stands between other characters, two repetitions may share it.
AROUND = (
    "{}",
    "#define x{}\ny",
    "_____{}x",
    "```{}x",
    "print x{}x",
    "function{}x",
    "What is the output?\n#!/bin/bash{}\nx",
)


@pytest.mark.parametrize("unit", UNITS, ids=repr)
def test_no_text_takes_more_than_linear_time(unit: str) -> None:
    began = time.process_time()
    for around in AROUND if unit in " \t\n" else AROUND[:1]:
        text = around.format(unit * (SIZE // len(unit)))
        asked = question("q", question=text, choices=("a", "b"))
        kind_of(asked)
        GAP.search(text)
        language_of(text[:300], text)
        extract(asked)
        examples_of(question("q", question="def f(x):\n" + text))
        filled(asked)
        for repairs in REPAIRS.values():
            for repair in repairs:
                repair(text)
        for probe in PROBES.values():
            probe.language(asked)
    # A tenth of a second each on a machine that is quick; what is not linear takes minutes.
    assert time.process_time() - began < 10


def test_a_question_beyond_all_forms_is_knowledge() -> None:
    long = question("q", question="What is the output of this program?\nprint(1)\n" + "# x\n" * 20_000)
    assert kind_of(long) == "knowledge"
    assert all(PROBES[name].language(long) is None for name in ("static", "execute", "verbatim"))
