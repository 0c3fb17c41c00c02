"""The jobs with examples, as processes: what they make, say and reuse, and that what is held out stays out."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from codemmlu.run_dir import RunDir
from tests.runs import CountedRun, Run, finish, job


def sentence(number: int) -> str:
    """A question that shares words with those of numbers near it."""
    return f"#q{number} what of word{number} word{number + 1} word{number + 2} word{number + 3}"


def written(path: Path, count: int, answers: dict[str, str] | None = None) -> Path:
    """A file of solved questions, with other answers where `answers` says so."""
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["task_id", "question", "choices", "answer"])
        for n in range(count):
            right = (answers or {}).get(f"q{n}", "ABC"[n % 3])
            lines.writerow([f"q{n}", sentence(n), [f"item{n % 3}", f"item{n}", "something"], right])
    return path


class SolvedRun(CountedRun):
    """A run over a file of solved questions, six of which are asked, with the hashing embedder."""

    def __post_init__(self) -> None:
        super().__post_init__()
        written(self.source, self.questions)
        (self.folder / "script.json").write_text("{}")
        recipe = json.loads(self.recipe.read_text())
        recipe["questions"]["holdout"] = {"n": 6}
        recipe["examples"] = {"source": str(self.source)}
        recipe["voters"] = {"shown": {"model": "m", "examples": 2}}
        self.recipe.write_text(json.dumps(recipe))

    def start(self, *overrides: str) -> "psutil.Popen":
        """Starts jobs/answer.py."""
        return self._start("answer", *overrides)

    def index(self, *overrides: str) -> Run:
        """Runs jobs/index.py to its end."""
        return finish(self._start("index", *overrides))

    def _start(self, name: str, *overrides: str) -> "psutil.Popen":
        given = [name, str(self.asked), str(self.folder / "script.json"), str(self.recipe), *overrides]
        return self.started("tests.retrieval.hashed_job", *given)

    def manifest(self) -> dict[str, Any]:
        """The index's manifest."""
        manifest: dict[str, Any] = json.loads((self.out / "index" / "manifest.json").read_text())
        return manifest


def answers(folder: Path) -> dict[str, dict[str, Any]]:
    """The stored answers of a pool, by task_id."""
    return {row["task_id"]: row for file in folder.glob("*.parquet") for row in pq.read_table(file).to_pylist()}


def mistake(done: Run) -> str:
    """What the person is told; always one line, and exit 2."""
    assert done.code == 2, done.out + done.err
    assert len(done.err.strip().splitlines()) == 1, done.err
    return done.err.strip()


@pytest.fixture(scope="module")
def made(running_ray: None, tmp_path_factory: pytest.TempPathFactory) -> SolvedRun:
    """A run whose index was made. Tests that change it work on a copy."""
    run = SolvedRun(tmp_path_factory.mktemp("made"), 30, {})
    done = run.index()
    assert done.code == 0, done.err
    assert f"examples: 24 with an answer from {run.source}" in done.out
    assert f"examples: an index of 24 (exact, 32 dimensions) is at {run.out}/index" in done.out
    return run


def copied(made: SolvedRun, folder: Path) -> SolvedRun:
    """A run of its own on the same questions, with the index that was made."""
    run = SolvedRun(folder, 30, {})
    shutil.copytree(made.out / "index", run.out / "index")
    return run


def test_an_index_whose_inputs_did_not_change_is_reused(made: SolvedRun) -> None:
    before = made.manifest()
    again = made.index("--json")
    assert again.code == 0, again.err
    assert "their index stands and nothing changed: reused" in again.err
    assert json.loads(again.out)["fingerprint"] == before["fingerprint"]
    assert made.manifest() == before


def test_an_index_is_made_anew_when_what_it_is_of_changes(made: SolvedRun, tmp_path: Path) -> None:
    run = copied(made, tmp_path)
    other = run.index("examples.text=question+choices", "examples.kind=hnsw")
    assert other.code == 0, other.err
    assert "the index is made anew, its text and kind changed" in other.out
    assert (run.manifest()["text"], run.manifest()["kind"]) == ("question+choices", "hnsw")
    written(run.source, 31)
    more = run.index("examples.text=question+choices", "examples.kind=hnsw")
    assert more.code == 0, more.err
    assert "the index is made anew, its examples or seed changed" in more.out
    assert run.manifest()["count"] == 25


def test_a_model_is_shown_solved_examples_and_is_asked_once(made: SolvedRun, tmp_path: Path) -> None:
    run = copied(made, tmp_path)
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


def test_an_index_that_stands_elsewhere_is_used(made: SolvedRun, tmp_path: Path) -> None:
    run, standing = copied(made, tmp_path), made.out / "index"
    alone = ["voters={alone: {method: retrieve, abstain_below: 0}}", "examples.source=null", f"out={tmp_path}/other"]

    nowhere = run.run(*alone, f"examples.index={tmp_path}/nowhere")
    assert f"examples.index: there is none at {tmp_path}/nowhere" in mistake(nowhere)
    assert "voters.alone: needs solved examples" in mistake(run.run(*alone))
    other = mistake(run.run(*alone, f"examples.index={standing}", "examples.text=question+choices"))
    assert f"examples.text: {standing} was made of 'question', the recipe has 'question+choices'" in other

    assert "nothing to learn from" in mistake(run.run(*alone, f"examples.index={standing}")), "all of it is asked"
    before = (standing / "manifest.json").read_bytes()
    used = run.run(*alone, f"examples.index={standing}", "questions.limit=20")
    assert used.code == 0, used.err
    assert "the weights are fitted without them" in used.out
    assert (standing / "manifest.json").read_bytes() == before, "somebody else's index stays as it is"
    assert f"examples: 24 in the index at {standing} (exact)" in used.out
    assert "questions.holdout is ignored" in used.out
    stored = answers(tmp_path / "other" / "answers" / "retrieve")
    assert len(stored) == 20
    assert all(row["task_id"] not in {one["task_id"] for one in row["retrieved"]} for row in stored.values())
    assert run.times_asked() == {}, "no engine"


def test_weights_follow_what_is_asked(made: SolvedRun, tmp_path: Path) -> None:
    """The same examples, other questions: the index stands, and nothing is fitted on what is asked now."""
    run = SolvedRun(tmp_path, 30, {})
    few, more = written(tmp_path / "few.csv", 4), written(tmp_path / "more.csv", 12)
    alone = ["voters={alone: {method: retrieve, abstain_below: 0}}"]
    assert run.index(*alone, f"questions.source={few}").code == 0
    first = run.manifest()
    again = run.index(*alone, f"questions.source={more}")
    assert again.code == 0, again.err
    assert "their index stands and nothing changed: reused" in again.out
    assert "other questions are asked than before, the weights are fitted without them" in again.out
    second = run.manifest()
    assert [one["weights"]["fitted_on"] for one in (first, second)] == [26, 18]
    assert first["weights"]["left_out"] != second["weights"]["left_out"]
    assert first["shards"] == second["shards"]


def test_an_index_in_a_place_of_its_own_is_made_by_one_run_at_a_time(made: SolvedRun, tmp_path: Path) -> None:
    place = RunDir(str(tmp_path / "index"))
    place.create()
    with place.lock():
        done = made.index(f"examples.index={tmp_path}/index", f"out={tmp_path}/run")
    assert f"another run is writing to {tmp_path}/index" in mistake(done)


def test_a_changed_index_file_is_the_persons_mistake(made: SolvedRun, tmp_path: Path) -> None:
    run = copied(made, tmp_path)
    file = run.out / "index" / "00000" / "index.faiss"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    said = mistake(run.run())
    assert f"{run.out}/index/00000/index.faiss has sha256" in said
    assert "its manifest says" in said
    assert run.times_asked() == {}


def test_a_holdout_of_two_files_is_ignored_and_said(tmp_path: Path) -> None:
    asked, solved = written(tmp_path / "asked.csv", 20), written(tmp_path / "solved.csv", 30)
    sources = [f"questions.source={asked}", f"examples.source={solved}"]
    done = job("run", "recipes/retrieve.yaml", "--dry-run", *sources, f"out={tmp_path}/x")
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
def test_mistakes_are_one_line(tmp_path: Path, overrides: list[str], says: str) -> None:
    solved = written(tmp_path / "solved.csv", 30)
    empty = written(tmp_path / "empty.csv", 4, {f"q{n}": "" for n in range(4)})
    sources = [f"questions.source={solved}", f"examples.source={solved}", "questions.holdout.n=10", f"out={tmp_path}/x"]
    given = [override.replace("EMPTY", str(empty)) for override in overrides]
    done = job("run", "recipes/retrieve.yaml", "--dry-run", *sources, *given)
    assert says.replace("EMPTY", str(empty)) in mistake(done)


def test_a_submitted_job_keeps_no_index_where_ray_deletes_it(tmp_path: Path) -> None:
    given = ["examples.index=my/index", f"out={tmp_path}/x"]
    done = job("run", "recipes/retrieve.yaml", *given, env={"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"})
    assert "examples.index: my/index is relative" in mistake(done)


def test_held_out_answers_teach_nothing(tmp_path: Path, running_ray: None) -> None:
    """The whole run with the real embedder, twice: the second time every held-out row has a wrong answer.

    What was learned, and what is said of every question, is the same to the last bit.
    """
    source = written(tmp_path / "solved.csv", 40)
    sources = [f"questions.source={source}", f"examples.source={source}", "questions.holdout.n=10"]
    runs = []
    for name in ("right", "wrong"):
        done = job("run", "recipes/retrieve.yaml", *sources, f"out={tmp_path}/{name}")
        assert done.code == 0, done.err
        manifest = json.loads((tmp_path / name / "index" / "manifest.json").read_text())
        stored = answers(tmp_path / name / "answers" / "retrieve")
        report = json.loads((tmp_path / name / "report.json").read_text())
        runs.append((manifest, stored, report))
        written(source, 40, {held: "ABC"["CAB".index("ABC"[int(held[1:]) % 3])] for held in stored})
    (manifest, stored, report), (other_manifest, other_stored, other_report) = runs
    assert len(stored) == 10
    assert manifest["dimensions"] == 384
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
