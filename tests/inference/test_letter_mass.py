"""The letter mass: a model that does not answer letters is reported, or ends the run, and its answers are kept."""

import re
from pathlib import Path

import pytest

from codemmlu.cli.console import Terminal
from codemmlu.errors import UserError
from codemmlu.inference.letter_mass import ENOUGH, LetterMass, sums_of
from codemmlu.schema import Answer, to_table
from tests.support.rows import ASK, answer, failed, question, reading
from tests.support.runs import ScriptedRun


class Lines(Terminal):
    """A terminal that keeps its lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def answers(mass: float, count: int = ENOUGH) -> list[Answer]:
    return [answer(question(f"t{n}"), readings=(reading((-1.0,) * 4, mass=mass),)) for n in range(count)]


def decided(rows: list[Answer], allow: bool = False, ask: str = ASK.name) -> list[str]:
    """Return the lines that are reported for these answers."""
    lines = Lines()
    LetterMass(lines, "smol", {ask: "one"}, allow).add(sums_of(to_table(rows, Answer)))
    return lines.lines


def test_a_healthy_mass_is_not_mentioned() -> None:
    assert decided(answers(0.87)) == decided(answers(0.5)) == []


def test_a_low_mass_is_a_warning_once() -> None:
    (line,) = decided(answers(0.09))
    assert "WARNING: models.smol: the letters hold only 0.090 of the probability in the first 64 answers" in line
    assert "voters.one.template" in line
    lines = Lines()
    masses = LetterMass(lines, "smol", {ASK.name: "one"}, False)
    for _ in range(3):
        masses.add(sums_of(to_table(answers(0.09), Answer)))
    assert len(lines.lines) == 1


def test_no_mass_ends_the_run_unless_it_is_allowed() -> None:
    with pytest.raises(UserError, match=r"hold only 0\.001 .* set models\.smol\.allow_low_mass=true"):
        decided(answers(0.001))
    assert "WARNING" in decided(answers(0.001), allow=True)[0]


def test_only_first_readings_of_letters_count() -> None:
    """Not failed rows, prompts without a question, free text, the index, or later readings among fewer letters."""
    assert decided(answers(0.001, count=ENOUGH - 1)) == []
    others = [failed(question(f"f{n}")) for n in range(ENOUGH)]
    others += [answer(question(f"n{n}"), split="null", readings=(reading((-9.0,) * 4, mass=0.0),)) for n in range(64)]
    assert decided([*answers(0.8), *others]) == []
    later = (reading((-1.0,) * 4, mass=0.8), reading((-9.0,), (0,), mass=0.0))
    assert decided([answer(question(f"t{n}"), readings=later) for n in range(ENOUGH)]) == []
    for method in ("reason", "sample", "retrieve"):
        rows = [answer(question(f"t{n}"), readings=(reading((-9.0,) * 4, mass=0.0),)) for n in range(ENOUGH)]
        renamed = [Answer(**{**vars(row), "ask": f"{method}-0123"}) for row in rows]
        assert decided(renamed, ask=f"{method}-0123") == []


def test_a_run_without_mass_stops_and_decides_again(tmp_path: Path, ray_cluster: dict[str, str]) -> None:
    """The same command decides from what is stored, before an engine starts; allowed, it goes on."""
    run = ScriptedRun(tmp_path, 150, {"letter_mass": 0.001, "seconds": 0.02})
    first = run.run("models.m.max_num_seqs=8")
    assert first.code == 2, first.out
    assert "error: models.m: the letters hold only 0.001 of the probability" in first.err
    kept = run.durable()
    assert len(kept) >= ENOUGH
    engines = len(run.by_engine())
    again = run.run("models.m.max_num_seqs=8")
    assert (again.code, len(run.by_engine())) == (2, engines)
    assert "starting" not in again.out
    voted = run.run(name="vote")
    assert voted.code == 2, "stored answers mean no more than new ones"
    allowed = run.run("models.m.allow_low_mass=true")
    assert allowed.code == 0, allowed.err
    # A block that was under way when the first job ended may have become durable after it.
    stored = re.search(r"(\d+) answers are here already", allowed.out)
    assert stored
    assert len(set(kept)) <= int(stored[1]) < 150
    assert run.report()["voters"]["direct"]["letter_mass"] == pytest.approx(0.001, rel=1e-3)
