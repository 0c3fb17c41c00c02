"""Real trainings on Ray Train that are killed, spread over workers, continued, stopped early, refused, and served."""

import json
import os
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from codemmlu.engine import chat_template
from codemmlu.engine.lora import CONFIG, LEARNT
from codemmlu.engine.model_source import cache_folder, resolve
from codemmlu.mcq import render
from codemmlu.schema import Question, Reading, answer_from, question_from
from tests.support.finetunes import Finetune
from tests.support.processes import descendants, finish, kill, named
from tests.support.runs import job

pytestmark = pytest.mark.soak
OFTEN = "finetune.checkpoint_steps=2"
FEW = 3  # questions that are computed again
SLOW = 1  # of their readings with NF4 weights too, for which a CPU takes seconds each


def wait_for_checkpoint(run: Finetune, process: "psutil.Popen", seconds: float = 180) -> None:
    """Wait until one checkpoint is durable, Ray has written down that it is, and the training goes on."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if list(run.out.glob("training/*/ray/checkpoint_manager_snapshot.json")):
            assert process.poll() is None, finish(process)
            return
        assert process.poll() is None, finish(process)
        time.sleep(0.02)
    raise AssertionError("no checkpoint became durable")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, ray_cluster: dict[str, str]) -> Finetune:
    """A training that nothing happened to."""
    run = Finetune(tmp_path_factory.mktemp("undisturbed"), environment=ray_cluster)
    done = run.run()
    assert done.code == 0, done.err
    return run


def test_a_training_whose_worker_is_killed_goes_on(
    undisturbed: Finetune, tmp_path: Path, ray_cluster: dict[str, str]
) -> None:
    """Two workers learn what one does with twice the accumulation; one of them is killed."""
    run = Finetune(tmp_path, environment=ray_cluster)
    process = run.start(OFTEN, "finetune.workers=2", "finetune.accumulation=1")
    wait_for_checkpoint(run, process)
    workers = named(descendants(psutil.Process()), "RayTrainWorker")  # of this process's Ray, and of no other
    assert workers, "there is no worker to kill"
    kill(workers[0])
    done = finish(process)
    assert done.code == 0, done.err
    assert "goes on from its last checkpoint" in done.out
    assert len(run.losses()) == len(undisturbed.losses()), "a step is missing or doubled"
    furthest = max(abs(one - other) for one, other in zip(run.losses(), undisturbed.losses(), strict=True))
    print(f"\n{len(run.losses())} steps, largest difference of a step's loss {furthest:.2g}")
    assert furthest < 0.02


def test_a_preference_tuning_whose_driver_is_killed(tmp_path: Path, ray_cluster: dict[str, str]) -> None:
    """Its reference is the model as it was at the start, also after the kill; nothing is preferred at first (ln 2)."""
    run = Finetune(tmp_path, environment=ray_cluster)
    preference = [*run.preference(tmp_path), "finetune.beta=2", "finetune.reorder=false"]
    done = run.run(*preference, f"out={tmp_path / 'undisturbed'}")
    assert done.code == 0, done.err
    manifest = json.loads((tmp_path / "undisturbed" / "adapters" / "tuned" / "manifest.json").read_text())
    first, *rest = manifest["tune"]
    assert first["loss"] == pytest.approx(0.693, abs=0.001)
    assert min(point["loss"] for point in rest) < first["loss"]
    assert len(manifest["train"]) == manifest["steps"]
    process = run.start(OFTEN, *preference)
    wait_for_checkpoint(run, process)
    kill(process)
    finish(process)
    done = run.run(OFTEN, *preference)  # at once, as a user would, whatever of the first is still there
    assert done.code == 0, done.err
    assert "goes on from its last checkpoint" in done.out
    losses = [point["loss"] for point in manifest["train"]]
    furthest = max(abs(one - other) for one, other in zip(run.losses(), losses, strict=True))
    print(f"\npreference: {len(losses)} steps, largest difference of a step's loss {furthest:.2g}")
    assert furthest < 1e-3


def test_training_goes_on_from_other_weights(undisturbed: Finetune, tmp_path: Path) -> None:
    """A relative path: workers run elsewhere. The shape stays, and so does what was learnt; examples are shown too."""
    first = undisturbed.out / "adapters" / "tuned"
    fresh = json.loads((first / "manifest.json").read_text())
    few = ["finetune.epochs=1", "finetune.limit=16", "finetune.seed=5", f"out={tmp_path / 'run'}"]
    shown = ["finetune.examples=1", "examples.embedder.source=hashing"]
    done = undisturbed.run(f"finetune.start={os.path.relpath(first)}", *few, *shown, "finetune.rank=4")
    assert done.code == 0, done.err
    assert "examples: an index of" in done.out
    second = tmp_path / "run" / "adapters" / "tuned"
    manifest = json.loads((second / "manifest.json").read_text())
    assert manifest["tune"][0]["loss"] < 1.1 * min(point["loss"] for point in fresh["tune"][1:])
    assert manifest["tune"][0]["loss"] < fresh["tune"][0]["loss"]
    assert manifest["settings"]["rank"] == fresh["settings"]["rank"] == json.loads((second / CONFIG).read_text())["r"]
    learnt = [set(json.loads((folder / LEARNT).read_text())) for folder in (first, second)]
    assert learnt[0] <= learnt[1]


def test_a_mistake_that_only_a_worker_sees(undisturbed: Finetune, tmp_path: Path) -> None:
    """A worker writes the mistake down for the driver, which prints it in one line."""
    done = undisturbed.run("finetune.max_length=16", f"out={tmp_path / 'run'}")
    assert done.code == 2, done.out + done.err
    assert "finetune.max_length: every example of the train part is longer than 16 tokens" in done.err
    assert done.err.count("\n") == 1


def test_trained_weights_are_served_beside_the_model(tmp_path: Path, ray_cluster: dict[str, str]) -> None:
    """The recipe of the README, shorter. What the engine reads with the weights is what peft computes with them."""
    shorter = ["finetune.limit=16", "finetune.epochs=1", "finetune.tune_limit=4", "finetune.merge=true"]
    shorter += ["questions.holdout.n=4", "models.smol.dtype=float32"]
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

    source = resolve("embedded", cache_folder())
    how = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    base = AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.float32, quantization_config=how if four_bits else None
    )
    model, tokenizer = PeftModel.from_pretrained(base, adapter).eval(), AutoTokenizer.from_pretrained(source)
    found = []
    for question, reading in served:
        prompt = render(question, "codemmlu", reading.order)
        text, tokens = chat_template.encode(tokenizer, prompt)
        with torch.no_grad():
            logs = model(input_ids=torch.tensor([tokens])).logits[0, -1].float().log_softmax(-1)
        ids = [
            chat_template.letter_token(tokenizer, text, tokens, prompt.before_letter + name) for name in prompt.letters
        ]
        found.append(tuple(float(logs[token]) for token in ids))
    return found


def furthest(served: list[tuple[Question, Reading]], others: list[tuple[float, ...]]) -> float:
    """The largest difference of a letter's log-probability."""
    pairs = zip(served, others, strict=True)
    return max(abs(a - b) for (_, one), other in pairs for a, b in zip(one.logprobs, other, strict=True))
