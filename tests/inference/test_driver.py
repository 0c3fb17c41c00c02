"""Asking: what is left to ask of a pool, in how many blocks, and what its engines are opened with. Nothing is started.

Whole pools on Ray are in tests/inference/test_stages_run.py and tests/inference/test_side_by_side.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from codemmlu.cli.console import Terminal
from codemmlu.cluster import locks, session
from codemmlu.engine.lora import Adapter
from codemmlu.engine.model_source import Model
from codemmlu.engine.placement.gpus import Resources, simulated
from codemmlu.engine.placement.placement import Placement
from codemmlu.engine.scripted import Script
from codemmlu.inference import driver, pipeline
from codemmlu.inference.calibration import Calibration
from codemmlu.inference.driver import RunContext, ask
from codemmlu.inference.pool import Pool, PoolSpec, StageBlocks
from codemmlu.inference.spec import InferenceSpec
from codemmlu.inference.stages import InferenceTask, PoolSession, Stage
from codemmlu.inference.voters import Ensemble, ResolvedVoter
from codemmlu.recipe import DirectVoter, Recipe, WhenSettings
from codemmlu.run_dir import RunDir
from codemmlu.schema import Answer, Question, to_table
from tests.support.rows import ASK, answer, failed, question, reading

QUESTIONS = [question(f"t{n}") for n in range(20)]
OTHER = replace(ASK, template="reference")
SURE, UNSURE = reading((-0.1, -3.0, -3.0, -3.0)), reading((-1.0, -1.1, -3.0, -3.0))
WHEN = WhenSettings(margin_below=0.3, of=("cheap",))
SCRIPT = {"answers": {"print": "two"}}


@dataclass
class Started:
    """What a pool's pipeline was started with, and the blocks that its stages came to."""

    pool: str
    stages: Sequence[StageBlocks]
    worker: PoolSpec
    placement: Placement
    per_block: int
    blocks: list[list[list[dict[str, Any]]]] = field(default_factory=list)

    def asked(self, stage: int) -> list[tuple[str, list[str]]]:
        """Return each question of a stage with the names of its asks."""
        rows = (row for block in self.blocks[stage] for row in block)
        return [(row["task_id"], [one["name"] for one in row["asks"]]) for row in rows]


class Pools:
    """Keeps what pools are started with. What a stage asks is answered before the next one is written."""

    def __init__(self, run: RunDir) -> None:
        self.run, self.started = run, list[Started]()

    def run_pipeline(
        self,
        terminal: Terminal,
        run: RunDir,
        pool: Pool,
        stages: Sequence[StageBlocks],
    ) -> None:
        """See pipeline.run_pipeline."""
        assert not run.exists("pending/m/killed/0/000000.parquet"), "it was there before"
        one = Started(pool.name, stages, pool.worker, pool.placement, pool.per_block)
        self.started.append(one)
        for stage in stages:
            stage.write(run)
            count = int(run.read(stage.ready))
            files = [f"{stage.folder}/{number:06d}.parquet" for number in range(count)]
            assert run.files(stage.folder) == files
            one.blocks.append([run.read_table(file).to_pylist() for file in files])
            keep(run, pool.name, stage.folder.replace("/", "-"), self._answers(one.asked(-1), pool.worker.specs))

    def _answers(self, asked: Iterable[tuple[str, list[str]]], asks: Iterable[InferenceSpec]) -> Iterator[Answer]:
        by_id, by_name = {one.task_id: one for one in QUESTIONS}, {ask.name: ask for ask in asks}
        for task_id, names in asked:
            for name in names:
                sure = int(task_id[1:]) % 4 == 0
                yield answer(by_id[task_id], by_name[name], readings=(SURE if sure else UNSURE,))


def keep(run: RunDir, pool: str, name: str, answers: Iterable[Answer]) -> None:
    """Write answers as a pool keeps them."""
    run.write_table(f"answers/{pool}/{name}.parquet", to_table(list(answers), Answer))


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run of twenty questions, without an answer."""
    made = RunDir(str(tmp_path))
    made.write_table("questions/000000.parquet", to_table(QUESTIONS, Question))
    return made


@pytest.fixture
def pools(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> Pools:
    """Stands for Ray, on two cores."""
    kept = Pools(run)
    monkeypatch.setattr(pipeline, "run_pipeline", kept.run_pipeline)
    monkeypatch.setattr(session, "join", lambda gpus: Resources(cpus=2))
    monkeypatch.setattr(locks, "refuse_unshared", lambda run: None)
    return kept


def voter(name: str, ask: InferenceSpec, **settings: Any) -> ResolvedVoter:
    """Return a resolved voter that reads letters."""
    return ResolvedVoter(name, DirectVoter(model=ask.pool, **settings), ask.pool, ask)


def go(run: RunDir, *stages: Stage, voters: Sequence[ResolvedVoter] = (), **model: Any) -> None:
    """Ask one pool, of scripted engines, these stages. model: its settings in the recipe."""
    settings = {"source": "scripted", **model}
    recipe = Recipe.model_validate({"out": run.address, "models": {"m": settings}, "voters": {"cheap": {"model": "m"}}})
    script = Script.model_validate(SCRIPT).model_dump(mode="json")
    models = {"m": Model("scripted", None, "fingerprint", None, script)}
    ensemble = Ensemble({one.name: one for one in voters}, {}, (), 4)
    ask(RunContext(recipe, Terminal(), run, ensemble, models, None), [PoolSession("m", stages)])


def test_stored_keys_are_read_once_for_the_first_stage(
    run: RunDir, pools: Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(run, "m", "earlier", [answer(one) for one in QUESTIONS[:5]])
    read, files = run.read_table, list[str]()

    def noted(name: str, columns: list[str] | None = None) -> Any:
        files.append(name)
        return read(name, columns)

    monkeypatch.setattr(run, "read_table", noted)
    go(run, (InferenceTask(ASK),))
    assert len(pools.started[0].asked(0)) == 15
    assert files.count("answers/m/earlier.parquet") == 1


@pytest.mark.parametrize("hardware", [Resources(cpus=2), simulated("1xT4")])
def test_an_engine_gets_the_device_of_the_placement(
    run: RunDir, pools: Pools, monkeypatch: pytest.MonkeyPatch, hardware: Resources
) -> None:
    monkeypatch.setattr(session, "join", lambda gpus: hardware)
    monkeypatch.setattr(driver, "refuse_idle_gpus", lambda resources: None)
    recipe = Recipe.model_validate(
        {"out": run.address, "models": {"m": {"source": "x"}}, "voters": {"v": {"model": "m"}}}
    )
    context = RunContext(
        recipe, Terminal(), run, Ensemble({}, {}, (), 4), {"m": Model("x", None, "f", 2**20, {})}, None
    )
    ask(context, [PoolSession("m", ((InferenceTask(ASK),),))])
    spec = pools.started[0].worker.worker_spec
    assert spec.settings
    assert spec.settings.device is hardware.device is pools.started[0].placement.device


def test_an_adapter_is_not_read_again_for_its_engine(run: RunDir, pools: Pools) -> None:
    """The files are not there: what was read when the voter was resolved is all that a pool needs."""
    tuned = replace(ASK, adapter="/nowhere")
    one = replace(voter("tuned", tuned), adapter=Adapter("/nowhere", "f", 8, "/nowhere"))
    go(run, (InferenceTask(tuned),), voters=[one])
    assert pools.started[0].worker.specs == (tuned,)


def test_a_pool_without_anything_left_starts_nothing(
    run: RunDir, pools: Pools, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def join(gpus: str | None) -> Resources:
        raise AssertionError("Ray was looked for")

    monkeypatch.setattr(session, "join", join)
    keep(run, "m", "a", (answer(one, asked) for one in QUESTIONS for asked in (ASK, OTHER)))
    go(run, (InferenceTask(ASK),), (InferenceTask(OTHER),))
    assert pools.started == []
    assert capsys.readouterr().out.splitlines() == [
        "m: 40 answers are here already and are not asked again",
        "m: nothing left to ask, no engine is started",
    ]


def test_only_what_has_no_answer_is_asked(run: RunDir, pools: Pools, capsys: pytest.CaptureFixture[str]) -> None:
    keep(run, "m", "a", map(answer, QUESTIONS[:12]))
    keep(run, "m", "b", [failed(one) for one in QUESTIONS[12:15]])
    go(run, (InferenceTask(ASK),))
    (one,) = pools.started
    assert one.asked(0) == [(f"t{n}", [ASK.name]) for n in range(12, 20)]
    assert one.stages[0].due == 8
    out = capsys.readouterr().out
    assert "m: 12 answers are here already" in out
    assert "m: 3 questions failed before and are asked again" in out
    assert "m: asking 8; starting 1 engine on the CPU (2 CPU cores), scripted" in out


def test_a_small_run_is_cut_into_blocks_of_eight(run: RunDir, pools: Pools) -> None:
    go(run, (InferenceTask(ASK), InferenceTask(OTHER)))
    (one,) = pools.started
    assert (one.per_block, one.stages[0].most, one.stages[0].due) == (8, 3, 40)
    assert [len(block) for block in one.blocks[0]] == [8, 8, 4]
    assert not run.files(one.stages[0].folder), "blocks that were asked are cleared away"


def test_answered_stages_are_passed_over(run: RunDir, pools: Pools, capsys: pytest.CaptureFixture[str]) -> None:
    """The engines still know their asks: a later stage may have to be judged by them."""
    keep(run, "m", "a", [*map(answer, QUESTIONS), answer(QUESTIONS[19], OTHER)])
    go(run, (InferenceTask(ASK),), (InferenceTask(OTHER),))
    assert "m: 21 answers are here already" in capsys.readouterr().out
    (one,) = pools.started
    assert [one.asked(0)[0], len(one.stages)] == [("t0", [OTHER.name]), 1]
    assert one.worker.specs == (ASK, OTHER)


def test_a_cascade_is_asked_what_turns_out_unclear(
    run: RunDir, pools: Pools, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its blocks are counted as if all were; every fourth question is clear once the first voter has answered."""
    go(
        run,
        (InferenceTask(ASK),),
        (InferenceTask(OTHER, when=WHEN),),
        voters=[voter("cheap", ASK), voter("dear", OTHER, when=WHEN)],
    )
    (one,) = pools.started
    assert [(stage.most, stage.due) for stage in one.stages] == [(3, 20), (3, 0)]
    assert [task_id for task_id, _ in one.asked(1)] == [f"t{n}" for n in range(20) if n % 4]
    assert "m: asking 20, and then what 1 later stage may need;" in capsys.readouterr().out


def test_an_early_exit_is_told_the_prior_of_its_pilot(run: RunDir, pools: Pools) -> None:
    """The pilot is asked first; the prior is written down, and what is asked later is judged by the same."""
    pilot = Calibration(ASK, tuple(QUESTIONS[:4]), "pilot")
    go(run, (InferenceTask(ASK, questions=pilot.questions),), (InferenceTask(OTHER, after=pilot),))
    (one,) = pools.started
    assert [task_id for task_id, _ in one.asked(0)] == ["t0", "t1", "t2", "t3"]
    priors = {tuple(asked["log_prior"]) for block in one.blocks[1] for row in block for asked in row["asks"]}
    (prior,) = priors
    assert prior[0] > prior[1] > prior[2], "A is liked best, and B next"
    run.clear("answers/m")
    keep(run, "m", "a", [answer(one) for one in QUESTIONS[:4]])  # they say B now
    go(run, (InferenceTask(ASK, questions=pilot.questions),), (InferenceTask(OTHER, after=pilot),))
    assert pools.started[1].blocks[0][0][0]["asks"][0]["log_prior"] == list(prior)


def test_engines_of_a_script_get_the_script_alone(run: RunDir, pools: Pools) -> None:
    go(run, (InferenceTask(ASK),), max_num_seqs=3)
    spec = pools.started[0].worker.worker_spec
    assert spec.settings
    assert (spec.settings.backend, spec.settings.arguments["script"]["answers"]) == (
        "scripted",
        SCRIPT["answers"],
    )
    assert spec.open_retriever is None
    assert pools.started[0].worker.most_choices == 4


def test_an_earlier_issues_blocks_are_cleared_away(run: RunDir, pools: Pools) -> None:
    """A job that was killed may have left some, and may still be reading them: no folder is used twice."""
    run.write("pending/m/killed/0/000000.parquet", b"")
    go(run, (InferenceTask(ASK),))
    first = pools.started[0].stages[0].folder
    run.clear("answers/m")
    go(run, (InferenceTask(ASK),))
    assert pools.started[1].stages[0].folder != first
