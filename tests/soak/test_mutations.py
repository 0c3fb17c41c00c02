"""The mutations: every day three others of the catalogue are put into a copy of the code, and the tests notice each."""

import datetime
import os
from dataclasses import replace

import pytest

from tests.mutations.catalogue import CATALOGUE
from tests.mutations.run import main

pytestmark = pytest.mark.soak

# Tests that take no time, and know nothing of the first mutation.
QUICK = ("tests/report/test_submission.py",)


def test_three_mutations_of_the_day_are_caught() -> None:
    seed = os.environ.get("MUTATIONS_SEED", datetime.date.today().isoformat())
    print(f"MUTATIONS_SEED={seed}")
    assert main(["--sample", "3", "--seed", seed]) == 0, f"MUTATIONS_SEED={seed} draws the same ones again"


def test_only_a_test_that_fails_by_a_mutation_catches_it(capsys: pytest.CaptureFixture[str]) -> None:
    unnoticed = replace(CATALOGUE[0], name="unnoticed", tests=QUICK)
    # It also shows that the tests import the copy's code.
    broken = replace(
        unnoticed,
        name="not-importable",
        file="codemmlu/report/submission.py",
        old="import csv\n",
        new='import csv\n\nraise ImportError("the copy")\n',
    )
    untested = replace(unnoticed, name="without-tests", tests=("tests/mutations/quick.py",))
    assert main([], [unnoticed, broken, untested]) == 1
    output = capsys.readouterr().out
    verdicts = {words[0]: words[1] for line in output.splitlines() if (words := line.split())[1:2]}
    assert [verdicts[one.name] for one in (unnoticed, broken, untested)] == ["survived", "broken", "red"]
    assert unnoticed.why in output
    assert "ImportError: the copy" in output
