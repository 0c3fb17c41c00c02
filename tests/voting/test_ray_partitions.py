"""The reduce on Ray: every question is in one part with all its answers, and a task's mistake is raised."""

from functools import partial
from typing import Any

import pyarrow as pa
import pytest

from codemmlu.errors import UserError
from codemmlu.run_dir import RunDir
from codemmlu.schema import Answer, Question, to_table
from codemmlu.voting import ray_partitions
from codemmlu.voting.aggregation import Partition
from codemmlu.voting.ray_partitions import RayPartitions
from codemmlu.voting.reduction import PartialResult, part_of
from tests.support.rows import ASK, answer, question

PARTS = 3
ALL = [question(f"t{i}", question=f"Question {i}?") for i in range(40)]
# No question of the first part is asked; answers to them are there from an earlier issue.
ASKED = [one for one in ALL if part_of(one.task_id, PARTS)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Questions with answers from two pools, in several files each."""
    run = RunDir(str(tmp_path_factory.mktemp("run")))
    for number in range(3):
        run.write_table(f"questions/{number:06d}.parquet", to_table(ASKED[number::3], Question))
        run.write_table(f"answers/m/{number:06d}.parquet", to_table(map(answer, ALL[number::3]), Answer))
    run.write_table("answers/m/empty.parquet", to_table([], Answer))
    run.write_table("answers/n/all.parquet", to_table(map(answer, ALL), Answer))
    return run


@pytest.fixture(scope="module")
def joined(run: RunDir, ray_cluster: dict[str, str]) -> RayPartitions:
    """All of it, cut into three parts by tasks that read two files each."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(ray_partitions, "_FILES", 2)
        return RayPartitions(run, ["m", "n"], PARTS)


def test_every_question_is_in_its_part_with_all_answers(joined: RayPartitions) -> None:
    for _ in ("what is asked first", "what is asked of the same parts again"):
        results = joined.map(_names)
        assert sorted(sums["part"] for _, sums in results) == [1, 2]  # answers alone make no part
        for columns, sums in results:
            names = columns["task_id"].to_pylist()
            assert names == [one.task_id for one in ASKED if part_of(one.task_id, PARTS) == sums["part"]]
            assert sums["m"] == sums["n"] == sorted(map(str, names))


def _names(number: int, part: Partition) -> PartialResult[dict[str, Any]]:
    """Return the task_ids of a part, and beside them those of the answers that it has to its questions."""
    wanted = {ASK.key(one) for one in part.questions}
    found = {pool: sorted(row.task_id for row in part.find(pool, wanted).values()) for pool in ("m", "n")}
    return pa.table({"task_id": [one.task_id for one in part.questions]}), {"part": number, **found}


def test_each_file_is_asked_by_itself(run: RunDir, joined: RayPartitions) -> None:
    files = run.files("questions")
    results = joined.each(files, partial(_first, run.address))
    names = sorted(str(name) for table in results for name in table["task_id"].to_pylist())
    assert names == sorted(one.task_id for one in ASKED[:3])


def _first(address: str, name: str) -> pa.Table:
    return RunDir(address).read_table(name, ["task_id"]).slice(0, 1)


def test_a_mistake_that_a_task_finds_is_the_users(run: RunDir, joined: RayPartitions) -> None:
    with pytest.raises(UserError, match="this is wrong"):
        joined.map(_mistake)
    with pytest.raises(UserError, match="this is wrong"):
        joined.each(run.files("questions"), _mistake)


def _mistake(*_: object) -> Any:
    raise UserError("this is wrong")
