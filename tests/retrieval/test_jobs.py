"""The jobs with examples, in this process: what they make, say and reuse, and that what is held out stays out."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from codemmlu.run_dir import RunDir
from tests.support.processes import Run
from tests.support.questions import write_csv
from tests.support.runs import ScriptedRun, job

ALONE = "voters={alone: {method: retrieve, abstain_below: 0}}"  # in the place of a voter with a model
DRY_RUN = ("run", "recipes/retrieve.yaml", "--dry-run")


def sentence(number: int) -> str:
    """A question that shares words with those of numbers near it."""
    return f"#q{number} what of word{number} word{number + 1} word{number + 2} word{number + 3}"


def written(path: Path, count: int, answers: dict[str, str] | None = None) -> Path:
    """Write a file of solved questions, with other answers where `answers` says so."""
    rows = (
        {
            "task_id": f"q{n}",
            "question": sentence(n),
            "choices": [f"item{n % 3}", f"item{n}", "something"],
            "answer": (answers or {}).get(f"q{n}", "ABC"[n % 3]),
        }
        for n in range(count)
    )
    return write_csv(path, rows)


class SolvedRun(ScriptedRun):
    """A run over a file of solved questions, six of which are asked, with the hashing embedder."""

    def __post_init__(self) -> None:
        super().__post_init__()
        written(self.csv, self.questions)
        recipe = json.loads(self.recipe.read_text())
        recipe["questions"]["holdout"] = {"n": 6}
        recipe["examples"] = {"source": str(self.csv), "embedder": {"source": "hashing"}}
        recipe["voters"] = {"shown": {"model": "m", "examples": 2}}
        self.recipe.write_text(json.dumps(recipe))

    def manifest(self) -> dict[str, Any]:
        """Read the index's manifest."""
        manifest: dict[str, Any] = json.loads((self.out / "index" / "manifest.json").read_text())
        return manifest


def answers(folder: Path) -> dict[str, dict[str, Any]]:
    """The stored answers of a pool, by task_id."""
    return {row["task_id"]: row for file in folder.glob("*.parquet") for row in pq.read_table(file).to_pylist()}


def fault(done: Run) -> str:
    """The text of the error: always one line, and exit 2."""
    assert done.code == 2, done.out + done.err
    assert len(done.err.strip().splitlines()) == 1, done.err
    return done.err.strip()


@pytest.fixture(scope="module")
def made(ray_cluster: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> SolvedRun:
    """A run whose index was made. Tests that change it work on a copy."""
    run = SolvedRun(tmp_path_factory.mktemp("made"), 30)
    done = run.run(name="index")
    assert done.code == 0, done.err
    assert f"examples: 24 with an answer from {run.csv}" in done.out
    assert f"examples: an index of 24 (exact, 256 dimensions) is at {run.out}/index" in done.out
    return run


@pytest.fixture
def run(made: SolvedRun, tmp_path: Path) -> SolvedRun:
    """A run of its own on the same questions, with the index that was made."""
    other = SolvedRun(tmp_path / "own", 30)
    shutil.copytree(made.out / "index", other.out / "index")
    return other


def test_an_index_whose_inputs_did_not_change_is_reused(made: SolvedRun) -> None:
    before = made.manifest()
    again = made.run("--json", name="index")
    assert again.code == 0, again.err
    assert "their index stands and nothing changed: reused" in again.err
    assert json.loads(again.out)["fingerprint"] == before["fingerprint"]
    assert made.manifest() == before


def test_an_index_is_made_anew_when_its_settings_change(run: SolvedRun) -> None:
    other = run.run("examples.text=question+choices", "examples.kind=hnsw", name="index")
    assert other.code == 0, other.err
    assert "the index is made anew, its text and kind changed" in other.out
    assert (run.manifest()["text"], run.manifest()["kind"]) == ("question+choices", "hnsw")


def test_an_index_is_made_anew_when_its_examples_change(run: SolvedRun) -> None:
    written(run.csv, 31)
    more = run.run(name="index")
    assert more.code == 0, more.err
    assert "the index is made anew, its examples or seed changed" in more.out
    assert run.manifest()["count"] == 25


def test_a_model_is_shown_solved_examples_and_asked_once(run: SolvedRun) -> None:
    done = run.run()
    assert done.code == 0, done.err
    assert "their index stands and nothing changed: reused" in done.out
    stored = answers(run.out / "answers" / "m")
    assert len(stored) == sum(run.times_asked().values()) == 6
    for name, row in stored.items():
        shown = [one["task_id"] for one in row["retrieved"]]
        assert len(shown) == 2
        assert not set(shown) & set(stored), f"{name} was shown a question that is held out"
        assert all(abs(int(other[1:]) - int(name[1:])) <= 4 for other in shown), "those that share words with it"
        assert row["retrieved"][0]["similarity"] >= row["retrieved"][1]["similarity"] > 0.3
        assert row["nearest"] == pytest.approx(row["retrieved"][0]["similarity"])
        assert row["verbatim"] is False
    assert run.report()["leakage"]["looked_up"] == 6

    again = run.run()
    assert again.code == 0, again.err
    assert "m: nothing left to ask, no engine is started" in again.out
    assert sum(run.times_asked().values()) == 6

    # a voter without examples asks on its own; with another budget the one with examples asks again
    more = run.run("voters.plain={model: m}", "examples.tokens=1000")
    assert more.code == 0, more.err
    assert sum(run.times_asked().values()) == 18
    last = run.run("voters.plain={model: m}", "examples.tokens=2000")
    assert "m: 12 answers are here already" in last.out, "of either budget, and without examples whatever the budget"
    assert sum(run.times_asked().values()) == 18


def test_an_index_that_stands_elsewhere_is_used(made: SolvedRun, run: SolvedRun, tmp_path: Path) -> None:
    standing = made.out / "index"
    elsewhere = [ALONE, "examples.source=null", f"out={tmp_path}/other", f"examples.index={standing}"]
    before = (standing / "manifest.json").read_bytes()
    used = run.run(*elsewhere, "questions.limit=20")
    assert used.code == 0, used.err
    assert "the weights are fitted without them" in used.out
    assert (standing / "manifest.json").read_bytes() == before, "an index that another run made stays as it is"
    assert f"examples: 24 in the index at {standing} (exact)" in used.out
    assert "questions.holdout is ignored" in used.out
    stored = answers(tmp_path / "other" / "answers" / "retrieve")
    assert len(stored) == 20
    assert all(row["task_id"] not in {one["task_id"] for one in row["retrieved"]} for row in stored.values())
    assert run.times_asked() == {}, "no engine"


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["examples.index=NOWHERE"], "examples.index: there is none at NOWHERE"),
        ([], "voters.alone: needs solved examples"),
        (
            ["examples.index=STANDING", "examples.text=question+choices"],
            "examples.text: STANDING was made of 'question', the recipe has 'question+choices'",
        ),
        (["examples.index=STANDING", "questions.limit=30"], "nothing to learn from"),  # every example is asked
    ],
)
def test_an_index_that_cannot_be_used_is_an_error(
    made: SolvedRun, run: SolvedRun, tmp_path: Path, overrides: list[str], says: str
) -> None:
    def filled(text: str) -> str:
        return text.replace("STANDING", str(made.out / "index")).replace("NOWHERE", str(tmp_path / "nowhere"))

    done = run.run(ALONE, "examples.source=null", f"out={tmp_path}/other", *map(filled, overrides))
    assert filled(says) in fault(done)


def test_weights_follow_what_is_asked(ray_cluster: dict[str, str], tmp_path: Path) -> None:
    """The same examples, other questions: the index stands, and nothing is fitted on what is asked now."""
    run = SolvedRun(tmp_path / "own", 30)
    few, more = written(tmp_path / "few.csv", 4), written(tmp_path / "more.csv", 12)
    assert run.run(ALONE, f"questions.source={few}", name="index").code == 0
    first = run.manifest()
    again = run.run(ALONE, f"questions.source={more}", name="index")
    assert again.code == 0, again.err
    assert "their index stands and nothing changed: reused" in again.out
    assert "other questions are asked than before, the weights are fitted without them" in again.out
    second = run.manifest()
    assert [one["weights"]["fitted_on"] for one in (first, second)] == [26, 18]
    assert first["weights"]["left_out"] != second["weights"]["left_out"]
    assert first["shards"] == second["shards"]


def test_one_run_at_a_time_makes_an_index_of_its_own_place(tmp_path: Path) -> None:
    run = SolvedRun(tmp_path / "own", 30)
    place = RunDir(str(tmp_path / "index"))
    place.create()
    with place.lock():
        done = run.run(f"examples.index={tmp_path}/index", name="index")
    assert f"another run is writing to {tmp_path}/index" in fault(done)


def test_a_changed_index_file_is_set_aside(run: SolvedRun) -> None:
    file = run.out / "index" / "00000" / "index.faiss"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    before = run.manifest()
    done = run.run()
    assert done.code == 0, done.err
    assert f"{run.out}/index/00000/index.faiss has sha256" in done.out
    assert "it is kept as index.faiss.damaged" in done.out
    (shard,), (earlier,) = run.manifest()["shards"], before["shards"]
    assert (run.manifest()["fingerprint"], shard["index_sha256"]) == (before["fingerprint"], earlier["index_sha256"])


def test_a_holdout_of_two_files_is_ignored_and_said(tmp_path: Path) -> None:
    asked, solved = written(tmp_path / "asked.csv", 20), written(tmp_path / "solved.csv", 30)
    sources = [f"questions.source={asked}", f"examples.source={solved}"]
    done = job(*DRY_RUN, *sources, f"out={tmp_path}/x")
    assert done.code == 0, done.err
    said = "questions.holdout is ignored: questions.source and examples.source are not the same"
    assert done.out.splitlines().count(said) == 1
    assert "20 questions from" in done.out
    assert "examples: 30 with an answer from" in done.out
    assert "retrieve: 20 asks of the index" in done.out
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["questions.holdout.n=30"], "questions.holdout.n: 30 of 30 labelled questions leaves none as examples"),
        (["examples.kind=ivfpq"], "examples.kind: ivfpq needs at least 10,000 examples, here are 20"),
        (["questions.source=sample", "examples.source=EMPTY"], "examples.source: EMPTY has no question with an answer"),
    ],
)
def test_examples_that_cannot_be_had_are_an_error(tmp_path: Path, overrides: list[str], says: str) -> None:
    solved = written(tmp_path / "solved.csv", 30)
    empty = written(tmp_path / "empty.csv", 4, {f"q{n}": "" for n in range(4)})
    sources = [f"questions.source={solved}", f"examples.source={solved}", "questions.holdout.n=10", f"out={tmp_path}/x"]
    given = [override.replace("EMPTY", str(empty)) for override in overrides]
    assert says.replace("EMPTY", str(empty)) in fault(job(*DRY_RUN, *sources, *given))


def test_a_submitted_job_keeps_no_index_where_ray_deletes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    done = job("run", "recipes/retrieve.yaml", "examples.index=my/index", f"out={tmp_path}/x")
    assert "examples.index: my/index is relative" in fault(done)


@pytest.mark.parametrize(
    ("embedder", "dimensions"), [("hashing", 256), pytest.param("embedded", 384, marks=pytest.mark.soak)]
)
def test_held_out_answers_teach_nothing(
    ray_cluster: dict[str, str], tmp_path: Path, embedder: str, dimensions: int
) -> None:
    """The whole run, twice: the second time every held-out row has a wrong answer.

    What was learned, and what is said of every question, is the same to the last bit.
    """
    source = written(tmp_path / "solved.csv", 40)
    given = [f"questions.source={source}", f"examples.source={source}", "questions.holdout.n=10"]
    given.append(f"examples.embedder.source={embedder}")
    runs = []
    for name in ("right", "wrong"):
        done = job("run", "recipes/retrieve.yaml", *given, f"out={tmp_path}/{name}")
        assert done.code == 0, done.err
        manifest = json.loads((tmp_path / name / "index" / "manifest.json").read_text())
        stored = answers(tmp_path / name / "answers" / "retrieve")
        report = json.loads((tmp_path / name / "report.json").read_text())
        runs.append((manifest, stored, report))
        written(source, 40, {held: "ABC"["CAB".index("ABC"[int(held[1:]) % 3])] for held in stored})
    (manifest, stored, report), (other_manifest, other_stored, other_report) = runs
    assert len(stored) == 10
    assert manifest["dimensions"] == dimensions
    assert manifest["fingerprint"] == other_manifest["fingerprint"]
    assert manifest["weights"] == other_manifest["weights"]
    assert manifest["weights"]["fitted_on"] == 30
    for name, row in stored.items():
        assert row["status"] == "answered"
        assert [row[said] for said in ("key", "letter", "readings", "retrieved")] == [
            other_stored[name][said] for said in ("key", "letter", "readings", "retrieved")
        ]
    accuracies = [one["vote"]["accuracy"] for one in (report, other_report)]
    assert sum(accuracies) <= 1, "what was right is wrong now: the second file was read"
    assert accuracies[0] != accuracies[1]
