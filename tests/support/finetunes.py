"""Finetunes as a person runs them, of a tiny model on a file of questions whose answers can be learnt."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.support.runs import ROOT, CountedRun, Run, finish, job
from tests.support.tiny_model import tiny_model

OF = ("apple", "pear", "plum", "cherry", "fig", "lime", "kiwi", "melon")
WORDS = ("red", "green", "blue", "white")


@dataclass
class Finetune:
    """One run directory with its recipe; `examples` of its questions are solved, six of them are asked."""

    folder: Path
    examples: int = 120

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.source = self.folder / "solved.csv"
        with self.source.open("w", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(["task_id", "question", "choices", "answer"])
            for n in range(self.examples):
                names = f"{OF[n % 8]} {n * 7919 % 1000} {OF[n // 8 % 8]} {n} {OF[n // 64 % 8]}"
                text = f"{names}: which one is {WORDS[n % 4]}?"
                lines.writerow([f"q{n}", text, list(WORDS), "ABCD"[n % 4]])
        self.out = self.folder / "run"
        recipe = {
            "out": str(self.out),
            "questions": {"source": str(self.source), "holdout": {"n": 6}},
            "examples": {"source": str(self.source)},
            "models": {"m": {"source": str(tiny_model(self.folder / "tiny"))}},
            "voters": {"base": {"model": "m"}, "tuned": {"model": "m", "adapter": "tuned"}},
            "finetune": {
                **{"model": "m", "quantization": "none", "epochs": 2, "batch_size": 4, "accumulation": 2},
                **{"learning_rate": 0.02, "gradient_checkpointing": False, "tune_limit": 8, "optimizer": "adamw"},
            },
        }
        self.recipe = self.folder / "recipe.yaml"
        self.recipe.write_text(json.dumps(recipe))

    def run(self, *overrides: str, name: str = "finetune") -> Run:
        """Runs the job to its end."""
        return job(name, str(self.recipe), *overrides, cwd=ROOT)

    def preferred(self, folder: Path) -> list[str]:
        """The settings that learn preferences: of the answers to every solved question, asked of a scripted engine.

        It likes A best, so that every pair sets the right choice against what stands there.
        """
        script = folder / "script.json"
        script.write_text("{}")
        answered = CountedRun(folder / "counted", 0, "vllm")
        plain = ["questions.holdout=null", "voters={base: {model: m}}", "finetune=null", f"out={folder / 'answered'}"]
        process = answered.started(
            "tests.support.counted_job", str(answered.asked), str(script), str(self.recipe), *plain
        )
        asked = finish(process)
        assert asked.code == 0, asked.err
        return [f"finetune.pairs_from={folder / 'answered'}", "finetune.objective=preference"]

    def manifest(self) -> dict[str, Any]:
        """What the published weights say of themselves."""
        manifest: dict[str, Any] = json.loads((self.out / "adapters" / "tuned" / "manifest.json").read_text())
        return manifest

    def losses(self) -> list[float]:
        """Of every step."""
        return [point["loss"] for point in self.manifest()["train"]]

    def asked(self) -> list[str]:
        """The task_ids that are held out, from the questions a job stored."""
        files = sorted((self.out / "questions").glob("*.parquet"))
        return [str(name) for file in files for name in pq.read_table(file)["task_id"].to_pylist()]
