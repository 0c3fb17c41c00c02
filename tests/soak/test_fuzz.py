"""Small formats from anyone: texts near valid ones are read rightly, or refused in one line, in linear time.

    FUZZ_SECONDS=600 FUZZ_SEED=7 pytest -s tests/soak/test_fuzz.py

Each format takes FUZZ_SECONDS seconds; each run of hypothesis in it has a seed of its own.
"""

import itertools
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from codemmlu.dataset.answers import parse_answer_letter, read_answer
from codemmlu.dataset.choices import Choices, read_choices
from codemmlu.dataset.values import RejectedRow
from codemmlu.engine.adapter_store import folder_of, read_manifest
from codemmlu.errors import UserError
from codemmlu.inference.calibration import PILOT, PILOT_FILE, identity, stored_pilot
from codemmlu.inference.damage import set_aside
from codemmlu.mcq.reply_parser import read_reply
from codemmlu.recipe import load
from codemmlu.retrieval import index_store
from codemmlu.run_dir import RunDir
from codemmlu.schema import MAX_CHOICES, letters
from tests.inference.test_damage import Lines
from tests.support.rows import question
from tests.support.runs import ROOT

pytestmark = pytest.mark.soak

SECONDS = float(os.environ.get("FUZZ_SECONDS", "17"))  # for each of the seven formats
SEED = int(os.environ.get("FUZZ_SEED", "0"))
_SLOW = 2.0  # seconds of processor time; no text has more than LONGEST characters, and linear time is milliseconds
LONGEST = 20_000
EARLIER = ROOT / "tests/fixtures/earlier_run/run"
TOKENS = (
    *("", " ", "\n", "\t", "\0", "\ud800", "\u202e", "\ufeff", "é", "\u0660", "ﬀ", "Ⓑ", "'", '"', "\\", "\\u0000"),
    *("[", "]", "{", "}", "(", ")", ",", ":", "=", "-", "- ", "&a ", "*a", "<<: *a", "!!python/name:os.system ", "#"),
    *("null", "~", "true", "NaN", "Infinity", "-1", "0", "1e999", "9" * 400, "0x10", ".inf", "1_0", "2024-01-01"),
    *("A", "B", "answer", "The answer is ", "not ", "\\boxed{", "</think>", "<think>", "**", "or ", "is ", "Question:"),
)


@st.composite
def texts(draw: st.DrawFn, samples: Sequence[str]) -> str:
    """Draw a text that is a valid one but for some changes."""
    text = draw(st.sampled_from(samples))
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 40)))
        new = draw(st.sampled_from(TOKENS) | st.text(max_size=4) | st.just(text[start:end]))
        text = text[:start] + new * draw(st.sampled_from((1, 1, 1, 2, 30, 3000))) + text[end:]
    return text[:LONGEST]


def explore(samples: Sequence[str], check: Callable[[str], object]) -> None:
    """Check texts near some samples until the time is over; say how many there were."""
    end, count = time.monotonic() + SECONDS, 0

    def in_time(text: str) -> None:
        nonlocal count
        count += 1
        signal.setitimer(signal.ITIMER_PROF, _SLOW)
        try:
            check(text)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    before = signal.signal(signal.SIGPROF, _late)
    try:
        for number in itertools.count(SEED):
            rule = settings(max_examples=100, database=None, suppress_health_check=[*HealthCheck])
            seed(number)(rule(given(texts(samples))(in_time)))()
            if time.monotonic() > end:
                break
    finally:
        signal.signal(signal.SIGPROF, before)
    print(f"\n{count:,} texts from seed {SEED} on", end="")


def _late(_: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"over {_SLOW} s")


def bytes_of(text: str) -> bytes:
    """Return a text as a file, in which half a character is no text in any encoding."""
    return text.encode("utf-8", "surrogatepass")


def test_recipes() -> None:
    samples = [file.read_text() for file in sorted((ROOT / "recipes").glob("*.yaml"))]

    def check(text: str) -> None:
        file.write_bytes(bytes_of(text))
        try:
            recipe = load(str(file), [])
        except UserError:
            return
        again = Path(folder, "again.yaml")
        again.write_text(recipe.as_yaml())
        assert load(str(again), []) == recipe

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "recipe.yaml")
        explore(samples, check)


def test_overrides() -> None:
    samples = [
        "questions.limit=10",
        "voters.smol.readings=4",
        "out=runs/x",
        "vote.rule=mean",
        "models.smol.engine={a: 1}",
    ]

    def check(text: str) -> None:
        try:
            recipe = load(str(ROOT / "recipes/demo.yaml"), [text])
        except UserError:
            return
        assert recipe.voters

    explore([*samples, "voters=[smol]", "examples.embedder={source: hashing}", "vote.rule=mean"], check)


def test_manifests() -> None:
    sample = (EARLIER / "index/manifest.json").read_text()

    def check(text: str) -> None:
        run.write("manifest.json", bytes_of(text))
        run.write(f"{folder_of('tuned')}/manifest.json", bytes_of(text))
        for read in (lambda: index_store.read_manifest(run), lambda: read_manifest(run, "tuned")):
            try:
                manifest = read()
            except UserError:
                continue
            assert manifest is not None
            assert type(manifest).model_validate_json(manifest.model_dump_json()) == manifest

    with tempfile.TemporaryDirectory() as folder:
        run = RunDir(folder)
        explore([sample, adapter_manifest()], check)


def adapter_manifest() -> str:
    """Return the manifest of an adapter."""
    names = ("name", "fingerprint", "base", "base_fingerprint", "examples", "backend", "device")
    point = {"step": 1, "loss": 0.5, "accuracy": None}
    numbers = dict.fromkeys(("train_examples", "steps", "best_step"), 3)
    rest = {"revision": None, "memory_gib": None, "tokens_per_second": 2.5, "settings": {"rank": 8}, "versions": {}}
    return json.dumps({**dict.fromkeys(names, "x"), **numbers, **rest, "train": [point], "tune": [point]})


def test_pilots() -> None:
    questions = [question(f"q{number}") for number in range(80)]
    names = [identity(one) for one in questions]

    def check(text: str) -> None:
        run.write(PILOT_FILE, bytes_of(text))
        set_aside(run, [], Lines())
        pilot = stored_pilot(run, iter(questions))
        assert set(pilot) <= set(questions)
        if run.exists(PILOT_FILE) and (kept := json.loads(text)) and set(kept) <= set(names):
            assert {identity(one) for one in pilot} == set(kept)
        else:
            assert len(pilot) == PILOT
        run.remove(f"{PILOT_FILE}.damaged")

    with tempfile.TemporaryDirectory() as folder:
        run = RunDir(folder)
        explore([json.dumps(names[:3]), json.dumps(names[5:6]), "[]"], check)


def test_replies() -> None:
    replies = [json.loads(line) for line in (ROOT / "tests/mcq/real_replies.jsonl").read_text().splitlines()]
    samples = [str(reply.get("reply", reply.get("text", ""))) for reply in replies][:60]
    options = ["one thing", "another", "none of these", "a" * 50]

    def check(text: str) -> None:
        for form in (text, (text * (LONGEST // max(1, len(text))))[:LONGEST]):
            reply = read_reply(form, options)
            assert (reply.letter is None) == (reply.found == "none")
            assert reply.letter is None or reply.letter in letters(len(options))
        assert read_reply(f"{letters(4)[len(text) % 4]}", options).letter == letters(4)[len(text) % 4]

    explore([*samples, "The answer is B.", "\\boxed{C}", "<think>A?</think> **D**", "I choose A, not B"], check)


def test_choices_fields() -> None:
    samples = [
        '["x", "y", "z"]',
        "['x', 'y']",
        "('a', 1.50, None)",
        '{"A": "x", "B": "y"}',
        '[{"text": "x"}, {"text": "y"}]',
    ]

    def check(text: str) -> None:
        for keep in (False, True):
            try:
                choices = read_choices(text, keep)
            except RejectedRow:
                continue
            assert all(isinstance(one, str) for one in (*choices.texts, *choices.labels))
            assert choices.marked is None or 0 <= choices.marked < len(choices.texts)
            if not keep and (plain := plain_list(text)) is not None:
                assert list(choices.texts) == plain

    explore([*samples, "{'text': ['x', 'y'], 'label': ['A', 'B']}", '{"choices": ["a", "b"], "labels": [0, 1]}'], check)


def plain_list(text: str) -> list[str] | None:
    """Return the texts of a JSON list of texts; None for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    is_plain = isinstance(value, list) and len(value) <= MAX_CHOICES and all(isinstance(one, str) for one in value)
    return value if is_plain else None


def test_answer_fields() -> None:
    choices = Choices(("Paris", "B", "42", "paris "), ("a", "b", "c", "d"))
    samples = [
        "B",
        "(b)",
        "ANSWER: **C**",
        "B. Rome",
        "2",
        "2.0",
        "Paris",
        "\\boxed{D}",
        "the correct answer is A",
        "Ⓑ",
    ]

    def check(text: str) -> None:
        letter = parse_answer_letter(text)
        assert letter is None or letter in letters(26)
        for form in ("letter", "zero-based", "one-based", "text"):
            index, note = read_answer(text, choices, form)
            assert index is None or 0 <= index < len(choices.texts)
            assert index is None or note is None or "unlabelled" not in note
            if form == "zero-based" and text in ("0", "1", "2", "3"):
                assert index == int(text)
            if form == "text" and choices.texts.count(text) == 1:
                assert index == choices.texts.index(text)

    explore(samples, check)
