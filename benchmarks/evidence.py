"""What tools and the text alone decide: five folds over a labelled file, by kind of question.

    python benchmarks/evidence.py train.csv [--test test.csv] [--observations FOLDER] [--json]

Everything that is learnt (frequencies, the weights of retrieval) comes from the other four folds;
questions with the same text are in one fold. Observations are kept in a folder, so that a second run runs no tool.
Retrieval counts words (the embedder `hashing`), which takes no model. The pool is the product of the probabilities of
all that speak.
"""

import argparse
import hashlib
import json
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.evidence_retrieval import retrieved
from codemmlu.dataset.dedup import content_key
from codemmlu.dataset.kind import KINDS, kind_of
from codemmlu.dataset.loader import QuestionStream
from codemmlu.evidence import PROBES, Observation, count
from codemmlu.evidence.frequencies import Feature
from codemmlu.recipe import QuestionSettings, digest
from codemmlu.report.statistics import wilson
from codemmlu.sandbox import open_sandbox
from codemmlu.schema import Question

FOLDS = 5
SURE = 0.9  # the calibrated probability from which a question counts as decided
Probabilities = list[npt.NDArray[np.float64] | None]


@dataclass(frozen=True)
class Rows:
    """Questions with what was observed about them, in file order."""

    questions: tuple[Question, ...]
    kinds: tuple[str, ...]
    features: dict[str, list[list[Feature] | None]]
    seconds: dict[str, float]

    @property
    def right(self) -> npt.NDArray[np.int64]:
        return np.array(["ABCDEFGHIJKLMNOPQRSTUVWXYZ".index(question.answer or "A") for question in self.questions])

    @property
    def folds(self) -> npt.NDArray[np.int64]:
        hashes = (hashlib.sha256(content_key(question).encode()).hexdigest() for question in self.questions)
        return np.array([int(value, 16) % FOLDS for value in hashes])

    @property
    def read(self) -> npt.NDArray[np.bool_]:
        """Which questions may have been read while the rules of extraction and matching were written."""
        firsts = (hashlib.sha256(question.task_id.encode()).digest()[0] for question in self.questions)
        return np.array([first % 2 == 0 for first in firsts])


def read(path: str) -> tuple[Question, ...]:
    rows = QuestionStream(QuestionSettings(source=path)).rows()
    return tuple(row for row in rows if isinstance(row, Question))


def observe(questions: Sequence[Question], method: str, folder: Path, workers: int) -> tuple[list[Any], float]:
    """Every question's observation by a method, and the seconds that the tools took where none was kept."""
    probe, sandbox = PROBES[method], open_sandbox()
    languages = sandbox.languages()

    def one(question: Question) -> Observation | None:
        language = probe.language(question)
        if language is None or (language and language not in languages):
            return None
        name = digest(method, question.question, question.choices, languages.get(language, ""), sandbox.name)
        file = folder / f"{method}-{name}.json"
        if file.exists():
            text = file.read_text(encoding="utf-8")
            return Observation.parse(text) if text else None
        observation = probe.observe(question, sandbox)
        file.write_text("" if observation is None else observation.text(), encoding="utf-8")
        return observation

    began = time.monotonic()
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, questions)), time.monotonic() - began


def look(questions: tuple[Question, ...], folder: Path, workers: int) -> Rows:
    features: dict[str, list[list[Feature] | None]] = {}
    seconds = {}
    for method, probe in PROBES.items():
        observations, seconds[method] = observe(questions, method, folder, workers)
        features[method] = [
            list(found) if observed and (found := probe.features(question, observed)) else None
            for question, observed in zip(questions, observations, strict=True)
        ]
    return Rows(questions, tuple(map(kind_of, questions)), features, seconds)


def in_folds(rows: Rows, method: str) -> Probabilities:
    """The probabilities of each question's choices by a method, learnt on the other folds; None: it abstains."""
    folds, right, features = rows.folds, rows.right, rows.features[method]
    result: Probabilities = [None] * len(folds)
    for fold in range(FOLDS):
        others = [(features[row], int(right[row])) for row in np.flatnonzero(folds != fold)]
        frequencies = count(others)
        for row in np.flatnonzero(folds == fold):
            own = features[row]
            result[row] = None if own is None else frequencies.probabilities(own)
    return result


def pool(voters: Sequence[Probabilities]) -> Probabilities:
    """The product of the probabilities of all voters that speak."""
    result: Probabilities = []
    for row in zip(*voters, strict=True):
        speaking = [np.log(np.maximum(own, 1e-6)) for own in row if own is not None]
        logs = np.sum(speaking, axis=0) if speaking else None
        result.append(None if logs is None else np.exp(logs - logs.max()) / np.exp(logs - logs.max()).sum())
    return result


def table(rows: Rows, voter: Probabilities, inside: npt.NDArray[np.bool_] | None = None) -> dict[str, Any]:
    """By kind: questions, how many a voter decides, how many of these are right, and of the sure ones."""
    chosen = np.ones(len(rows.kinds), dtype=bool) if inside is None else inside
    counts = {kind: Counter[str]() for kind in (*KINDS, "all")}
    for kind, own, right, counts_here in zip(rows.kinds, voter, rows.right, chosen, strict=True):
        for name in (kind, "all") if counts_here else ():
            counts[name]["questions"] += 1
            if own is not None:
                hit = int(own.argmax() == right)
                counts[name].update(decided=1, right=hit)
                counts[name].update({"sure": int(own.max() >= SURE), "sure_right": int(own.max() >= SURE) * hit})
    return {
        kind: {
            **{name: own[name] for name in ("questions", "decided", "right", "sure", "sure_right")},
            "precision": own["right"] / own["decided"] if own["decided"] else None,
            "interval": wilson(own["right"], own["decided"]) if own["decided"] else None,
        }
        for kind, own in counts.items()
    }


def mixed(by_kind: dict[str, Any], mix: dict[str, float]) -> dict[str, Any]:
    """The accuracy in another file's mix of kinds, abstentions counted as wrong, with a stratified interval."""
    total = variance = 0.0
    for kind, share in mix.items():
        own = by_kind[kind]
        # One more right and one more wrong, so that a kind without a mistake is not taken for certain.
        accuracy, n = own["right"] / max(1, own["questions"]), own["questions"]
        smooth = (own["right"] + 1) / (n + 2)
        total += share * accuracy
        variance += share**2 * smooth * (1 - smooth) / max(1, n)
    half = 1.96 * variance**0.5
    return {"accuracy": total, "interval": [total - half, total + half]}


def without_model(rows: Rows, learnt: Rows) -> dict[str, Any]:
    """How much of a file is decided with at least SURE: by artefacts, by tools, and by either."""
    probabilities: dict[str, Probabilities] = {}
    for method in PROBES:
        if rows is learnt:
            probabilities[method] = in_folds(rows, method)
            continue
        frequencies = count(zip(learnt.features[method], map(int, learnt.right), strict=True))
        probabilities[method] = [None if f is None else frequencies.probabilities(f) for f in rows.features[method]]
    sure = {
        method: np.array([own is not None and own.max() >= SURE for own in voter])
        for method, voter in probabilities.items()
    }
    artefacts = np.any([sure[name] for name, probe in PROBES.items() if probe.artefact], axis=0)
    tools = np.any([sure[name] for name, probe in PROBES.items() if not probe.artefact], axis=0)
    characters = np.array([len(q.question) + sum(map(len, q.choices)) for q in rows.questions])
    return {
        "questions": len(rows.questions),
        "kinds": dict(Counter(rows.kinds)),
        "by_artefacts": float(artefacts.mean()),
        "by_tools": float(tools.mean()),
        "by_either": float((artefacts | tools).mean()),
        "characters_not_read": float(characters[artefacts | tools].sum() / characters.sum()),
        **{method: float(own.mean()) for method, own in sure.items()},
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    folder = Path(options.observations)
    folder.mkdir(parents=True, exist_ok=True)
    rows = look(tuple(question for question in read(options.train) if question.answer), folder, options.workers)
    test = look(read(options.test), folder, options.workers) if options.test else None
    voters = {method: in_folds(rows, method) for method in PROBES}
    voters["retrieve"] = retrieved(rows.questions, rows.right, rows.folds)
    honest = [name for name in voters if name not in PROBES or not PROBES[name].artefact]
    voters["pool without artefacts"] = pool([voters[name] for name in honest])
    voters["pool"] = pool([voters[name] for name in (*PROBES, "retrieve")])
    tables = {name: table(rows, voter) for name, voter in voters.items()}
    result: dict[str, Any] = {
        "tools": {"sandbox": open_sandbox().name, **open_sandbox().languages()},
        "folds": FOLDS,
        "seconds": rows.seconds,
        "questions_per_second": len(rows.questions) / max(1e-9, sum(rows.seconds.values())),
        "by_kind": tables,
        "train": without_model(rows, rows),
    }
    if test is not None:
        shares = {kind: number / len(test.kinds) for kind, number in Counter(test.kinds).items()}
        result["test"] = without_model(test, rows)
        result["in_test_mix"] = {name: mixed(tables[name], shares) for name in tables}
        for half, inside in (("read", rows.read), ("not_read", ~rows.read)):
            halves = {name: table(rows, voter, inside) for name, voter in voters.items()}
            result[half] = {"by_kind": halves, "in_test_mix": {name: mixed(halves[name], shares) for name in halves}}
    return result


def show(result: dict[str, Any]) -> None:
    print(f"{'voter':<24}{'kind':<20}{'questions':>10}{'decided':>9}{'right':>7}{'precision':>11}  95 % interval")
    for name, by_kind in result["by_kind"].items():
        for kind, own in by_kind.items():
            if own["decided"]:
                low, high = own["interval"]
                numbers = f"{own['questions']:>10}{own['decided']:>9}{own['right']:>7}{own['precision']:>11.3f}"
                print(f"{name:<24}{kind:<20}{numbers}  {low:.3f} to {high:.3f}")
    for name, own in result.get("in_test_mix", {}).items():
        low, high = own["interval"]
        print(f"in the test file's mix: {name:<24}{own['accuracy']:.3f}  {low:.3f} to {high:.3f}")
    for half in ("read", "not_read"):
        for name, own in result.get(half, {}).get("in_test_mix", {}).items():
            print(f"{half}, in the test file's mix: {name:<24}{own['accuracy']:.3f}")
    for file in ("train", "test"):
        if own := result.get(file):
            shares = f"{own['by_artefacts']:.3f} by artefacts, {own['by_tools']:.3f} by tools"
            print(f"{file}: {shares}, {own['by_either']:.3f} by either")


def main() -> None:
    parser = argparse.ArgumentParser(description="What tools and the text alone decide, in five folds.")
    parser.add_argument("train")
    parser.add_argument("--test")
    parser.add_argument("--observations", default="runs/observations")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(options)
    show(result)
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
