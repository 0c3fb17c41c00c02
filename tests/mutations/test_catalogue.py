"""The catalogue of mutations: it fits the code as it stands, and its runner refuses what does not."""

from collections import Counter
from dataclasses import replace

import pytest

from tests.mutations.catalogue import CATALOGUE
from tests.mutations.run import ROOT, StaleError, check, main


def test_names_are_given_once() -> None:
    assert max(Counter(mutation.name for mutation in CATALOGUE).values()) == 1


def test_every_mutation_can_be_made_in_the_code_as_it_is() -> None:
    for mutation in CATALOGUE:
        check(ROOT, mutation)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"old": "a line that nobody wrote"}, "0 times instead of once"),
        ({"old": "import"}, "times instead of once"),
        ({"file": "codemmlu/moved.py"}, "codemmlu/moved.py: No such file"),
        ({"new": "(("}, "would be no python any more"),
        ({"tests": ("tests/test_moved.py",)}, "there is no tests/test_moved.py"),
    ],
)
def test_a_mutation_that_does_not_fit_is_said(
    fields: dict[str, object], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = replace(CATALOGUE[0], **fields)  # type: ignore[arg-type]
    with pytest.raises(StaleError, match=says):
        check(ROOT, stale)
    assert main([], [stale]) == 2, "and nothing has run"
    assert capsys.readouterr().err.startswith(f"the catalogue is stale: {stale.name}: ")


def test_a_mutation_that_there_is_not_is_a_mistake() -> None:
    with pytest.raises(SystemExit) as end:
        main(["no-such-mutation"])
    assert end.value.code == 2
