"""Real trainings on Ray Train that are killed, spread over workers, and served."""

import json
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from codemmlu.engine import chat
from codemmlu.engine.sources import cache_folder, materialise
from codemmlu.prompts import render
from codemmlu.rows import Question, Reading, answer_from, question_from
from tests.support.finetunes import Finetune
from tests.support.runs import CountedRun, Run, descendants, finish, job, kill, named

pytestmark = pytest.mark.soak
OFTEN = "finetune.checkpoint_steps=2"
EXAMPLES = 240
FEW = 3  # questions that are computed again
SLOW = 4  # of their readings with NF4 weights too, for which a CPU takes seconds each


def started(run: Finetune, *overrides: str) -> "psutil.Popen":
    """The job, which has just begun."""
    return CountedRun(run.folder / "counted", 0, "vllm").started("jobs.finetune", str(run.recipe), *overrides)


def wait_for_checkpoint(run: Finetune, process: "psutil.Popen", seconds: float = 180) -> None:
    """Until one checkpoint is durable, and Ray has written down that it is, and the training has not ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if list(run.out.glob("training/*/ray/checkpoint_manager_snapshot.json")):
            assert process.poll() is None, finish(process)
            return
        assert process.poll() is None, finish(process)
        time.sleep(0.02)
    raise AssertionError("no checkpoint became durable")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Every step's loss of a training that nothing happened to."""
    run = Finetune(tmp_path_factory.mktemp("undisturbed"), EXAMPLES)
    assert run.run().code == 0
    return run.losses()


@pytest.mark.parametrize("victim", ["driver", "one of two"])
def test_a_killed_training_goes_on_with_the_same_data(victim: str, undisturbed: list[float], tmp_path: Path) -> None:
    """Two workers learn what one does with twice the accumulation."""
    run = Finetune(tmp_path, EXAMPLES)
    two = ["finetune.workers=2", "finetune.accumulation=1"] if victim == "one of two" else []
    killed_and_finished(run, "driver" if victim == "driver" else "worker", OFTEN, *two)
    assert len(run.losses()) == len(undisturbed), "a step is missing or doubled"
    furthest = max(abs(one - other) for one, other in zip(run.losses(), undisturbed, strict=True))
    print(f"\n{victim}: {len(undisturbed)} steps, largest difference of a step's loss {furthest:.2g}")
    assert furthest < (0.02 if two else 1e-3)


def test_a_killed_preference_tuning_goes_on(tmp_path: Path) -> None:
    """Its reference is the model as it was at the start, also after the kill."""
    run = Finetune(tmp_path)
    preference = [*run.preferred(tmp_path), "finetune.beta=2", "finetune.reorder=false"]
    assert run.run(*preference, f"out={tmp_path / 'undisturbed'}").code == 0
    manifest = json.loads((tmp_path / "undisturbed" / "adapters" / "tuned" / "manifest.json").read_text())
    killed_and_finished(run, "worker", OFTEN, *preference)
    undisturbed = [point["loss"] for point in manifest["train"]]
    furthest = max(abs(one - other) for one, other in zip(run.losses(), undisturbed, strict=True))
    print(f"\npreference: {len(undisturbed)} steps, largest difference of a step's loss {furthest:.2g}")
    assert furthest < 1e-3


def killed_and_finished(run: Finetune, victim: str, *overrides: str) -> None:
    """A training whose driver, or whose first worker, is killed at a checkpoint, and that is finished nevertheless."""
    process = started(run, *overrides)
    wait_for_checkpoint(run, process)
    target = process if victim == "driver" else next(iter(named(descendants(process), "RayTrainWorker")), None)
    assert target, "there is no worker to kill"
    kill(target)
    done: Run = finish(process)
    if victim == "driver":
        done = run.run(*overrides)  # at once, as a person would, whatever of the first is still there
    assert done.code == 0, done.err
    assert "goes on from its last checkpoint" in done.out


def test_weights_are_trained_and_served_beside_the_model(tmp_path: Path) -> None:
    """The recipe of the README, shorter. What the engine reads with the weights is what peft computes with them."""
    shorter = ["finetune.limit=24", "finetune.epochs=1", "finetune.tune_limit=8", "finetune.merge=true"]
    shorter += ["questions.holdout.n=8", "models.smol.dtype=float32"]
    out = tmp_path / "run"
    done = job("run", "recipes/finetune-smol.yaml", f"out={out}", *shorter)
    assert done.code == 0, done.err
    assert done.out.count("starting 1 engine") == 1, "the plain model and the weights are served by one engine"
    assert "Loss while training" in (out / "report.html").read_text()
    assert (out / "merged" / "tuned" / "model.safetensors").is_file()
    merged = ("voters=[base]", f"models.smol.source={out}/merged/tuned", "questions.holdout.seed=5")
    asked = job("answer", "recipes/finetune-smol.yaml", f"out={tmp_path / 'again'}", "questions.holdout.n=40", *merged)
    assert asked.code == 2, "what a merged model was made of is not asked of it"
    assert asked.err.startswith("error: models.smol.source: "), asked.err
    served = readings(out, "tuned")
    unquantised = furthest(served, computed(out / "adapters" / "tuned", served, four_bits=False))
    some = served[:SLOW]
    four_bits = furthest(some, computed(out / "adapters" / "tuned", some, four_bits=True))
    moved = furthest(served, [reading.logprobs for _, reading in readings(out, "base")])
    print(
        f"\n{len(served)} readings; largest difference of a letter's log-probability: vLLM to transformers and peft "
        f"{unquantised:.2g}, to the NF4 weights it was trained on {four_bits:.2g}, to the plain model {moved:.2g}"
    )
    assert unquantised < 0.01
    assert unquantised < min(four_bits, moved)


def readings(out: Path, voter: str) -> list[tuple[Question, Reading]]:
    """What an engine read for a voter: the readings of a few questions, in a stable order."""
    ask = json.loads((out / "report.json").read_text())["voters"][voter]["ask"]
    rows = [row for file in sorted((out / "questions").glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
    questions = {row["task_id"]: question_from(row) for row in rows}
    files = sorted((out / "answers" / "smol").glob("*.parquet"))
    answers = [answer_from(row) for file in files for row in pq.read_table(file).to_pylist() if row["ask"] == ask]
    answers.sort(key=lambda answer: answer.task_id)
    return [(questions[answer.task_id], reading) for answer in answers[:FEW] for reading in answer.readings]


def computed(adapter: Path, served: list[tuple[Question, Reading]], four_bits: bool) -> list[tuple[float, ...]]:
    """The same letters by transformers and peft in float32, over whole or NF4 weights."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    source = materialise("embedded", cache_folder())
    how = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    base = AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.float32, quantization_config=how if four_bits else None
    )
    model, tokenizer = PeftModel.from_pretrained(base, adapter).eval(), AutoTokenizer.from_pretrained(source)
    found = []
    for question, reading in served:
        prompt = render(question, "codemmlu", reading.order)
        text, tokens = chat.encode(tokenizer, prompt)
        with torch.no_grad():
            logs = model(input_ids=torch.tensor([tokens])).logits[0, -1].float().log_softmax(-1)
        ids = [chat.letter_token(tokenizer, text, tokens, prompt.before_letter + name) for name in prompt.letters]
        found.append(tuple(float(logs[token]) for token in ids))
    return found


def furthest(served: list[tuple[Question, Reading]], others: list[tuple[float, ...]]) -> float:
    """The largest difference of a letter's log-probability."""
    pairs = zip(served, others, strict=True)
    return max(abs(a - b) for (_, one), other in pairs for a, b in zip(one.logprobs, other, strict=True))
