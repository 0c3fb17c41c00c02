"""Finetunes of a tiny model on questions whose answers can be learnt, and weights that look as if they were trained."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from codemmlu.engine.adapter_store import Manifest, Point, publish
from codemmlu.run_dir import RunDir
from tests.support.adapters import write_adapter
from tests.support.processes import Run
from tests.support.questions import write_csv
from tests.support.runs import job, start_job
from tests.support.tiny_model import tiny_model

OF = ("apple", "pear", "plum", "cherry", "fig", "lime", "kiwi", "melon")
WORDS = ("red", "green", "blue", "white")


def solved_csv(path: Path, n: int) -> Path:
    """Write n questions that name a colour, with the choice of that colour as the right one."""
    rows = (
        {
            "task_id": f"q{i}",
            "question": f"{OF[i % 8]} {i * 7919 % 1000} {OF[i // 8 % 8]} {i} {OF[i // 64 % 8]}: "
            f"which one is {WORDS[i % 4]}?",
            "choices": list(WORDS),
            "answer": "ABCD"[i % 4],
        }
        for i in range(n)
    )
    return write_csv(path, rows)


@dataclass
class Finetune:
    """A run directory with its recipe; `examples` questions are solved, six of them are held out and asked.

    source: of the model; a tiny one of random weights where none is given
    environment: of jobs that are processes, added to this process's own
    """

    folder: Path
    examples: int = 120
    source: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.csv = solved_csv(self.folder / "solved.csv", self.examples)
        self.out = self.folder / "run"
        recipe = {
            "out": str(self.out),
            "questions": {"source": str(self.csv), "holdout": {"n": 6}},
            "examples": {"source": str(self.csv)},
            "models": {"m": {"source": self.source or str(tiny_model(self.folder / "tiny")), "allow_low_mass": True}},
            "voters": {"base": {"model": "m"}, "tuned": {"model": "m", "adapter": "tuned"}},
            "finetune": {
                **{"model": "m", "quantization": "none", "epochs": 2, "batch_size": 4, "accumulation": 2},
                **{"learning_rate": 0.02, "gradient_checkpointing": False, "tune_limit": 8, "optimizer": "adamw"},
            },
        }
        self.recipe = self.folder / "recipe.yaml"
        self.recipe.write_text(json.dumps(recipe))

    def run(self, *overrides: str, name: str = "finetune") -> Run:
        """Run a job of this recipe to its end in this process."""
        return job(name, str(self.recipe), *overrides)

    def start(self, *overrides: str) -> "psutil.Popen":
        """Start the training as a process and return at once."""
        return start_job("finetune", str(self.recipe), *overrides, environment=self.environment)

    def preference(self, folder: Path) -> list[str]:
        """Ask every solved question of a scripted engine, and return the settings that learn preferences from that.

        The engine prefers A, so that every pair sets the right choice against what stands there.
        """
        out = folder / "answered"
        plain = ["questions.holdout=null", "voters={base: {model: m}}", "finetune=null"]
        asked = self.run(*plain, "models.m.source=scripted", f"out={out}", name="answer")
        assert asked.code == 0, asked.err
        return [f"finetune.pairs_from={out}", "finetune.objective=preference"]

    def manifest(self, out: Path | None = None) -> dict[str, Any]:
        """Return what the published weights say of themselves."""
        path = (out or self.out) / "adapters" / "tuned" / "manifest.json"
        manifest: dict[str, Any] = json.loads(path.read_text())
        return manifest

    def losses(self, out: Path | None = None) -> list[float]:
        """Return the loss of every step."""
        return [point["loss"] for point in self.manifest(out)["train"]]

    def lessons(self) -> list[dict[str, Any]]:
        """Return the rows that a training which did not end was given."""
        (file,) = self.out.glob("training/*/lessons.parquet")
        rows: list[dict[str, Any]] = pq.read_table(file).to_pylist()
        return rows


def manifest_of(name: str = "tuned", **fields: Any) -> Manifest:
    """Return a manifest as a training leaves it."""
    known: dict[str, Any] = {
        **{"name": name, "fingerprint": "f", "base": "/models/m", "revision": None, "base_fingerprint": "weights"},
        **{"examples": "e", "train_examples": 8, "steps": 2, "best_step": 2, "backend": "peft", "device": "CPU"},
        **{"memory_gib": 1.0, "tokens_per_second": 9.0, "settings": {}, "versions": {}},
        **{"train": (Point(step=1, loss=1.4), Point(step=2, loss=1.2))},
        **{"tune": (Point(step=0, loss=1.5, accuracy=0.25), Point(step=2, loss=1.25, accuracy=0.5))},
    }
    return Manifest(**{**known, **fields})


def weights_in(folder: Path, **config: Any) -> Path:
    """Write LoRA weights as peft would, and return the folder."""
    return write_adapter(folder, {}, **{"r": 16, "lora_alpha": 16, **config})


def published(out: Path, learnt: Iterable[str] = (), scratch: Path | None = None, **fields: Any) -> Path:
    """Publish weights in a run directory as a training would, and return their folder. learnt: content keys."""
    manifest = manifest_of(**fields)
    publish(RunDir(str(out)), weights_in(scratch or out / "scratch"), learnt, manifest)
    return out / "adapters" / manifest.name
