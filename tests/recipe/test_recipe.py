"""Recipes: overrides reach every key, and every fault is said in one line before anything starts."""

from pathlib import Path

import pytest
import yaml

from codemmlu.errors import UserError
from codemmlu.recipe import DirectVoter, Recipe, digest, load

RECIPES = Path(__file__).parents[2] / "recipes"
SMALL = """
out: runs/x
models:
  m: {source: embedded}
voters:
  one: {model: m}
  two: {model: m, template: reference}
"""


@pytest.fixture
def small(tmp_path: Path) -> str:
    """A recipe with one model and two voters."""
    return written(tmp_path, SMALL)


def written(folder: Path, text: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def fault(path: str, *overrides: str) -> str:
    """Return the text of the error; always one line."""
    with pytest.raises(UserError) as error:
        load(path, list(overrides))
    assert "\n" not in str(error.value)
    return str(error.value)


METHODS = "methods: direct, verify, verify-rank, reason, sample, retrieve"


@pytest.mark.parametrize("name", sorted(path.name for path in RECIPES.glob("*.yaml")))
def test_every_recipe_here_loads_and_says_how_it_is_run(name: str) -> None:
    path = RECIPES / name
    assert load(str(path), []).voters
    comments = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(f"python jobs/run.py recipes/{name}" in line for line in comments[:5])


def test_what_is_left_out_has_a_written_default(small: str) -> None:
    recipe = load(small, [])
    assert recipe.questions.source == "sample"
    assert recipe.questions.limit is None
    assert recipe.models["m"].tensor_parallel is None
    assert recipe.voters["one"] == DirectVoter(model="m", template="codemmlu", examples=0)
    assert recipe.submission.blank == ""
    assert recipe.seed == 0


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("questions.limit=300", "questions.limit", 300),
        ("questions.limit=null", "questions.limit", None),
        ("questions.source=a=b.csv", "questions.source", "a=b.csv"),
        ("questions.subjects=[api, sql]", "questions.subjects", ["api", "sql"]),
        ("questions.columns.task_id=Nr", "questions.columns", {"task_id": "Nr"}),
        ("models.m.source=/models/qwen", "models.m.source", "/models/qwen"),
        ("models.m.engine.max_num_batched_tokens=4096", "models.m.engine", {"max_num_batched_tokens": 4096}),
        ("models.m.gpu_memory_utilization=1", "models.m.gpu_memory_utilization", 1.0),
        ("voters.one.template=reference", "voters.one.template", "reference"),
        ("submission.blank=E", "submission.blank", "E"),
        ("submission.blank=", "submission.blank", ""),
        ("out=s3://bucket/run", "out", "s3://bucket/run"),
        ("seed=7", "seed", 7),
        ("questions.holdout.n=44", "questions.holdout", {"n": 44, "seed": 0}),
        ("examples.embedder.batch_size=8", "examples.embedder.batch_size", 8),
        ("examples.min_similarity=0.3", "examples.min_similarity", 0.3),
    ],
)
def test_overrides_reach_every_key(small: str, override: str, path: str, value: object) -> None:
    found = load(small, [override]).model_dump(mode="json")
    for key in path.split("."):
        found = found[key]
    assert found == value


def test_an_override_makes_what_is_not_there_yet(small: str) -> None:
    recipe = load(small, ["models.new.source=a/b", "voters.three.model=new"])
    assert recipe.voters["three"] == DirectVoter(model="new")
    assert recipe.models["new"].source == "a/b"


def test_of_two_overrides_the_last_counts(small: str) -> None:
    assert load(small, ["seed=1", "seed=2"]).seed == 2


def test_an_empty_section_can_be_filled(tmp_path: Path) -> None:
    path = written(tmp_path, f"{SMALL}questions:\n")
    assert load(path, ["questions.limit=3"]).questions.limit == 3


def test_voters_are_picked_by_name(small: str) -> None:
    assert list(load(small, ["voters=[two]"]).voters) == ["two"]
    assert list(load(small, ["voters=[two, one, two]"]).voters) == ["two", "one"]
    picked = load(small, ["voters=[three]", "voters.three.model=m"])
    assert list(picked.voters) == ["three"]


def test_voters_can_be_replaced_by_a_mapping(small: str) -> None:
    assert list(load(small, ["voters={only: {model: m}}"]).voters) == ["only"]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("voters=[three]", "voters: the recipe has no three; it has one, two"),
        (
            "voters.one.early_exit=margin",
            "voters.one: early_exit: a margin says nothing while letters are liked; set calibrate to prior",
        ),
        (
            "voters.one={model: m, early_exit: margin, calibrate: prior}",
            "voters.one: early_exit: of one reading there is none to skip; set readings to cyclic",
        ),
        ("voters.one.readings=0", "voters.one.readings"),
        ("voters.one.readings=some", "voters.one.readings"),
        ("voters.one={model: m, method: verify, threshold: fit}", "voters.one.threshold: to fit it give vote.fit"),
        ("voters.one={model: m, method: verify, threshold: 2}", "voters.one.threshold"),
        ("vote.fit.limit=100", "vote.fit: what is fitted is fitted on solved examples; give examples.source"),
        (
            "voters.one.when={margin_below: 0.2, of: [three]}",
            "voters.one.when.of: there is no voter 'three'; voters: one, two",
        ),
        ("voters.one.when={margin_below: 0.2, of: [one]}", "voters.one.when.of: it waits for itself: one -> one"),
        ("voters.one.when={margin_below: 0.2, of: []}", "voters.one.when.of"),
        ("voters.one.when={margin_below: 0.2, undecided_by: [two]}", "either margin_below with of, or undecided_by"),
        ("voters.one.when={undecided_by: [three]}", "voters.one.when.undecided_by: there is no voter 'three'"),
        ("voters.one.when={margin_below: 0.2, of: [two], confidence: 0.9}", "confidence: belongs to undecided_by"),
        (
            "questions.kinds={sql: '(select'}",
            "questions.kinds: sql: Invalid regular expression: missing ): (select; write a",
        ),
        ("report.order_sensitivity=[three]", "report.order_sensitivity: there is no voter 'three'; voters: one, two"),
        ("voters=[{a: 1}]", "voters: the recipe has no {'a': 1}; it has one, two"),
        ("voters=[]", "voters: at least one is needed"),
        ("voters=one", "voters: Input should be a valid dictionary (it is 'one')"),
        ("voters.one.model=n", "voters.one.model: there is no model 'n'; models: m"),
        (
            "voters.one.method=guess",
            f"voters.one.method: there is no 'guess'; {METHODS}",
        ),
        ("voters.one.examples=33", "voters.one.examples: Input should be less than or equal to 32 (it is '33')"),
        ("voters.one.examples=2", "voters.one: needs solved examples; give examples.source, or examples.index"),
        ("voters.two={method: retrieve}", "voters.two: needs solved examples; give examples.source, or examples.index"),
        ("voters.two={method: retrieve, model: m}", "voters.two.model: there is no such key"),
        (
            "voters.two={method: retrieve, neighbours: 0}",
            "voters.two.neighbours: Input should be greater than or equal",
        ),
        ("voters.one.abstain_below=0.5", "voters.one.abstain_below: there is no such key"),
        ("examples.kind=flat", "examples.kind: Input should be 'auto', 'exact', 'hnsw' or 'ivfpq' (it is 'flat')"),
        ("examples.diversity=1", "examples.diversity: Input should be less than 1 (it is '1')"),
        ("examples.embeder.source=x", "examples.embeder: there is no such key"),
        ("voters.one=null", "voters.one: Input should be a valid dictionary"),
        ("voters.one=5", "voters.one: Input should be a valid dictionary"),
        (
            "voters.one.method=null",
            f"voters.one.method: there is no 'None'; {METHODS}",
        ),
        ("questions.holdout={seed: 1}", "questions.holdout.n: is missing"),
        ("questions.limt=3", "questions.limt: there is no such key"),
        ("questions.limit=yes", "questions.limit: true is no number"),
        ("seed=true", "seed: true is no number"),
        (
            "out=2024",
            "out: YAML reads 2024 there, which is no text; put it in quotes, on the command line in two pairs",
        ),
        ("submission.blank=NO", "submission.blank: YAML reads False there, which is no text"),
        ("voters.one.readings=many", "readings: Input should be a valid integer, or 'cyclic' or 'all' (it is 'many')"),
        ("questions.source=my #1.csv", "to YAML a comment begins at ` #`"),
        ("voters={one: {model: m}, one: {model: m}}", "'one' stands there twice"),
        ("questions.subjects=sql", "questions.subjects: Input should be a list (it is 'sql')"),
        ("questions.limit=0", "questions.limit: Input should be greater than or equal to 1 (it is '0')"),
        ("questions.limit=many", "questions.limit: Input should be a valid integer"),
        ("questions.encoding=utf9", "questions: encoding: there is no 'utf9'; try utf-8-sig or cp1252"),
        ("questions=3", "questions: Input should be a valid dictionary"),
        ("models.m.revison=main", "models.m.revison: there is no such key"),
        ("models.a b.source=x", "'models.a b.source=x': an override is written key.path=value"),
        ("models.m.engine.tensor_parallel_size=2", "models.m: engine.tensor_parallel_size: say this with"),
        ("voters.vote={model: m}", "voters.vote: the report calls the verdicts so; choose another name"),
        ("vote.rule=loudest", "'cascade' or 'stacked' (it is 'loudest')"),
        ("out=", "out: the run needs a directory"),
        ("out=2024-13-45", "'out=2024-13-45': the value is not YAML; quote it"),
        ("out.x=3", "'out.x=3': out is a value, it has no keys"),
        ("questions.subjects=[a", "'questions.subjects=[a': the value is not YAML; quote it"),
        ("limit", "'limit': an override is written key.path=value, for example questions.limit=100"),
        ("=3", "'=3': an override is written key.path=value"),
        ("questions..limit=3", "'questions..limit=3': an override is written key.path=value"),
        ("questions" + ".a" * 40 + "=3", " and so on: no key of a recipe has more than 32 parts"),
    ],
)
def test_a_fault_names_the_key_and_what_would_be_right(small: str, override: str, says: str) -> None:
    assert says in fault(small, override)


def test_all_faults_are_said_at_once(small: str) -> None:
    said = fault(small, "questions.limit=0", "models.m.dtype=int3", "vote.rue=x", "seed=x")
    assert said.startswith(small)
    for key in ("questions.limit: ", "models.m.dtype: ", "vote.rue: ", "seed: "):
        assert key in said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "a recipe is a mapping with the keys out, seed, gpus, questions, examples, models, voters"),
        ("[out]", "a recipe is a mapping with the keys"),
        ("out: [", "not YAML"),
        ("out: 2024-13-45", "not YAML"),
        ("out: x", "voters: is missing"),
        ("voters: {}", "out: is missing"),
        ("out: x\nvoters: {}", "voters: at least one is needed"),
        ("out: x\nvoters: [one]", "voters: Input should be a valid dictionary"),
        (f"{SMALL}1: 2", "1: Keys should be strings"),
        (SMALL.replace("one:", "../one:"), "voters.../one: String should match pattern"),
        (SMALL.replace("one:", f"{'n' * 65}:"), "String should match pattern"),
    ],
)
def test_a_broken_recipe_is_told_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    assert says in fault(written(tmp_path, text))


def test_voters_that_are_no_mapping_cannot_be_picked(tmp_path: Path) -> None:
    path = written(tmp_path, "out: x\nvoters: [one]")
    assert "voters: Input should be a valid dictionary" in fault(path, "voters=[one]")


def test_a_recipe_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    assert "No such file" in fault(str(tmp_path / "nowhere.yaml"))
    assert "Is a directory" in fault(str(tmp_path))
    path = tmp_path / "bytes.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "not YAML" in fault(str(path))


def test_the_resolved_recipe_loads_as_itself(tmp_path: Path, small: str) -> None:
    overrides = ["questions.limit=3", "questions.source=é.csv", "models.m.engine.seed=1"]
    recipe = load(small, overrides)
    again = load(written(tmp_path, recipe.as_yaml()), [])
    assert again == recipe
    assert "é.csv" in recipe.as_yaml()


def test_a_recipe_cannot_be_changed_once_read(small: str) -> None:
    recipe = load(small, [])
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 1
    assert Recipe.model_validate(yaml.safe_load(SMALL)) == recipe


def test_a_digest_follows_values_not_their_order_in_a_mapping() -> None:
    assert digest("a", {"x": 1, "y": [2]}) == digest("a", {"y": [2], "x": 1})
    assert digest("a", "b") != digest("ab")
    assert digest(["a"], "b") != digest("a", ["b"])
    assert digest(1) != digest("1")
    assert digest("é") == "d8f81e7a2fa1455720e881bd1d164699"


def test_a_name_with_dots_can_be_overridden(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("out: x\nmodels: {qwen2.5: {source: a}}\nvoters: {v: {model: qwen2.5}}\n")
    assert load(str(path), ["models.qwen2.5.source=b"]).models["qwen2.5"].source == "b"


def test_a_key_that_stands_there_twice_is_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("out: x\nout: y\n")
    with pytest.raises(UserError, match="'out' stands there twice"):
        load(str(path), [])


def test_a_model_may_not_take_the_name_of_retrievals_answers(small: str) -> None:
    overrides = ["examples.source=sample", "models.retrieve.source=embedded", "voters.three={method: retrieve}"]
    assert "models.retrieve: voters.three keeps its answers under that name" in fault(small, *overrides)
    assert load(small, [overrides[0], overrides[2]]).asked["three"].pool == "retrieve"


def test_a_circle_of_voters_that_wait_for_one_another_is_said(small: str) -> None:
    when = [f"voters.{name}.when={{margin_below: 0.2, of: [{of}]}}" for name, of in (("one", "two"), ("two", "one"))]
    assert "voters.one.when.of: it waits for itself: one -> two -> one" in fault(small, *when)


def test_what_is_merged_into_a_mapping_may_be_said_anew(tmp_path: Path) -> None:
    """Of a merge of a merge, too; and a key that stands twice is a mistake still."""
    recipe = tmp_path / "recipe.yaml"
    text = """
out: runs/x
models: {m: {source: embedded}}
voters:
  a: &a {model: m, readings: cyclic}
  b: &b {<<: *a, readings: 2}
  c: {<<: *b, calibrate: prior}
"""
    recipe.write_text(text)
    voters = load(str(recipe), []).voters
    assert [voter.readings for voter in voters.values() if isinstance(voter, DirectVoter)] == ["cyclic", 2, 2]
    recipe.write_text(text.replace("readings: 2}", "readings: 2, readings: 3}"))
    with pytest.raises(UserError, match="'readings' stands there twice"):
        load(str(recipe), [])
