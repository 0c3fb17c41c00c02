"""Engines that die again and again, in whole runs; tests/inference/test_crash_isolation.py has the rules one by one."""

from pathlib import Path
from typing import Any

import pytest

from codemmlu.inference.crash_isolation import GIVEN_UP, REPLACEMENTS
from tests.support.runs import ScriptedRun

pytestmark = pytest.mark.soak


def test_questions_that_kill_engines_are_given_up(tmp_path: Path, ray_cluster: dict[str, str]) -> None:
    """The worker hears of the end of its engine; nothing hears of the end of the worker."""
    fatal = {"kills_engine": ["#q5 ", "#q77 "], "kills_worker": ["#q6 "], "seconds": 0.02}
    run = ScriptedRun(tmp_path, 100, fatal)
    done = run.run()
    assert done.code == 1, done.err
    rows = run.answers()
    assert sorted(row["task_id"] for row in rows) == sorted(f"q{i}" for i in range(100)), "lost or doubled"
    failed = {row["task_id"]: row["error"] for row in rows if row["status"] == "failed"}
    assert failed.keys() == {"q5", "q6", "q77"}
    assert set(failed.values()) == {GIVEN_UP}
    assert "q77" in done.out
    run.script = {}
    again = run.run()
    assert again.code == 0, again.err
    assert "3 questions failed before and are asked again" in again.out


def test_an_engine_that_dies_leaves_whole_conversations(tmp_path: Path, ray_cluster: dict[str, str]) -> None:
    """It dies in a second turn, each time; the next run asks that question again, from the first turn on."""
    script = {"answers": {f"#q{i} ": f"that {i}" for i in range(0, 20, 4)}, "refuted": ["that 8"], "seconds": 0.05}
    run = ScriptedRun(tmp_path, 20, {**script, "kills_engine": ["### Answer:\nthat 8\n"]})
    verify = ["voters.direct={model: m, method: verify}", "models.m.max_num_seqs=4"]
    first = run.run(*verify)
    assert first.code == 1, first.err
    (failed,) = [row for row in run.answers() if row["status"] == "failed"]
    assert (failed["task_id"], failed["turns"]) == ("q8", [])
    run.script = script
    second = run.run(*verify)
    assert second.code == 0, second.err
    rows = [row for row in run.answers() if row["status"] == "answered"]
    assert sorted(row["task_id"] for row in rows) == sorted(f"q{i}" for i in range(20)), "lost or doubled"
    for row in rows:
        kinds = [turn["kind"] for turn in row["turns"]]
        assert kinds == (["answer", "check"] * 2 if row["task_id"] == "q8" else ["answer", "check"])


def test_a_replacement_that_cannot_start_is_replaced(tmp_path: Path, ray_cluster: dict[str, str]) -> None:
    """The first engine answered: it is that machine's trouble and no mistake of the user's."""
    dying = {"kills_once": str(tmp_path / "died"), "kills_engine": ["#q5 "]}  # short ones are asked last
    run = ScriptedRun(tmp_path, 100, {**dying, "seconds": 0.1, "fails_to_open": [str(tmp_path / "opened"), 2]})
    done = run.run("models.m.max_num_seqs=8")
    assert done.code == 0, done.err
    assert (tmp_path / "opened").read_text() == "...", "the second could not be opened, the third went on"
    assert sorted(run.durable()) == sorted(f"q{i}" for i in range(100))


@pytest.mark.parametrize("script", [{"kills_engine": ["#q"]}, {"killed_at_start": True}], ids=str)
def test_engines_that_die_without_an_answer_end_the_run(
    script: dict[str, Any], tmp_path: Path, ray_cluster: dict[str, str]
) -> None:
    run = ScriptedRun(tmp_path, 30, script)
    done = run.run()
    assert done.code == 1
    assert f"not finished: the run stopped: {REPLACEMENTS + 1} engines in a row died without one answer" in done.err
    assert "to continue:" in done.err
    assert run.answers() == []
