"""Safety: what a run directory, a model or the environment may not do to who runs a job."""

import ast
import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from codemmlu.cli.inputs import foreign_code
from codemmlu.cli.job import command_line
from codemmlu.engine.gguf import convert
from codemmlu.errors import UserError, redact_credentials
from codemmlu.recipe import Recipe
from codemmlu.recipe.models import ModelSettings
from codemmlu.retrieval.embedder import _check_modules
from codemmlu.run_dir import RunDir
from codemmlu.training.backends import SAFE
from tests.support.runs import ROOT, ScriptedRun, job

SECRET = "hf_not_a_real_token_0123456789"


def test_nothing_here_can_unpickle() -> None:
    """Ray moves our own values between its processes by pickle; what lies in files is read by formats without code."""
    for path in (ROOT / "codemmlu").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not {"pickle", "cloudpickle", "joblib", "dill", "shelve", "marshal"} & set(names), path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load":
                called = ast.unparse(node)
                assert not called.startswith(("torch.load", "np.load")) or "weights_only=True" in called, path


def test_code_of_a_model_is_off_and_said_loudly_when_on(tmp_path: Path) -> None:
    off = job("run", "recipes/demo.yaml", "--dry-run", f"out={tmp_path}/x")
    assert off.code == 0, off.err
    assert "WARNING" not in off.out
    on = job("run", "recipes/demo.yaml", "--dry-run", f"out={tmp_path}/x", "models.smol.trust_remote_code=true")
    assert "WARNING: models.smol.trust_remote_code: Python code that comes with embedded runs on every node" in on.out


def test_a_token_of_the_environment_is_written_nowhere(
    tmp_path: Path, ray_cluster: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    run = ScriptedRun(tmp_path, 12, {"breaks": ["#q9 "]})
    done = run.run()
    assert done.code == 1, done.err
    assert SECRET not in done.out + done.err
    files = [path for path in run.out.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_a_token_in_a_recipe_is_refused(tmp_path: Path) -> None:
    done = job("run", "recipes/demo.yaml", "--dry-run", f"out={tmp_path}/x", f"models.smol.engine.hf_token={SECRET}")
    assert done.code == 2
    assert "engine.hf_token: recipes are kept and shown; set HF_TOKEN in the environment" in done.err
    assert SECRET not in done.out + done.err


def test_the_command_that_goes_on_hides_keys_in_addresses() -> None:
    given = ["recipes/demo.yaml", f"out=s3://AKIAKEY:{SECRET}@bucket/runs/x?region=nowhere", "questions.limit=3"]
    assert command_line("run", given) == "python jobs/run.py recipes/demo.yaml out=s3://bucket/runs/x questions.limit=3"


def test_the_line_that_says_what_is_wrong_hides_them_too(tmp_path: Path) -> None:
    address = f"s3://AKIAKEY:{SECRET}@bucket/x.csv?endpoint_override=127.0.0.1:9&scheme=http"
    done = job("run", "recipes/demo.yaml", "--dry-run", f"out={tmp_path}/x", f"questions.source={address}")
    assert done.code == 2
    assert "questions.source: s3://bucket/x.csv" in done.err
    assert SECRET not in done.out + done.err


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "", "answers/../../../x"])
def test_a_name_does_not_lead_out_of_a_run_directory(name: str, tmp_path: Path) -> None:
    run = RunDir(str(tmp_path))
    for use in (run.read, run.exists, run.clear, lambda one: run.write(one, b"")):
        with pytest.raises(ValueError, match="leaves the run directory"):
            use(name)


NAMES = [
    "voters={x/../../y: {model: smol}}",
    "models={../z: {source: embedded}, smol: {source: embedded}}",
    "finetune={model: smol, name: ../z}",
]


@pytest.mark.parametrize("override", NAMES)
def test_nor_does_the_name_of_a_voter_model_or_adapter(override: str, tmp_path: Path) -> None:
    done = job("run", "recipes/demo.yaml", "--dry-run", f"out={tmp_path}/x", override)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "String should match pattern" in done.err


def test_documented_commands_keep_ray_on_loopback() -> None:
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    starts = [line for path in documents for line in path.read_text().splitlines() if "ray start --head" in line]
    assert starts
    commands = [line for line in starts if line.startswith("    ")]
    assert commands
    assert all("--node-ip-address=127.0.0.1" in line for line in commands)


def test_no_library_runs_code_beside_a_model() -> None:
    """Every model and tokenizer is loaded without code beside it, unless the recipe trusts it, and from safetensors."""
    safe = {"**SAFE": {"use_safetensors"}, "**name": {"trust_remote_code"}}
    calls = 0
    for path in (ROOT / "codemmlu").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            kind = ast.unparse(node.func.value)
            if node.func.attr != "from_pretrained" or kind == "PeftModel":  # Its base is loaded before.
                continue
            calls += 1
            given = {keyword.arg or f"**{ast.unparse(keyword.value)}" for keyword in node.keywords}
            given |= set().union(*(safe.get(name, set()) for name in given))
            assert "trust_remote_code" in given, f"{path}: {ast.unparse(node)}"
            trusted = [ast.unparse(word.value) for word in node.keywords if word.arg == "trust_remote_code"]
            assert set(trusted) <= {"False", "trust"}, f"{path}: {ast.unparse(node)}"
            if "Model" in kind and path.name != "gguf_reader.py":
                assert "use_safetensors" in given, f"{path}: {ast.unparse(node)}"
    assert calls > 5
    assert SAFE == {"use_safetensors": True}


CODE: list[tuple[str, Any]] = [
    ("worker_cls", "evil.Worker"),
    ("worker-cls", "evil.Worker"),
    ("worker_extension_cls", "evil.Extension"),
    ("scheduler_cls", "evil.Scheduler"),
    ("logits_processors", ["evil:Processor"]),
    ("distributed_executor_backend", "evil.Executor"),
    ("io_processor_plugin", "evil"),
    ("reasoning_parser_plugin", "/tmp/evil.py"),
    ("kv_transfer_config", {"kv_connector": "x", "kv_connector_module_path": "evil"}),
    ("compilation_config", {"backend": "evil.compile"}),
    ("hf_overrides", {"auto_map": {"AutoModel": "evil.Model"}}),
    ("hf_overrides", {"a": [{"auto_map": "evil"}]}),
]


@pytest.mark.parametrize(("name", "value"), CODE)
def test_an_engine_argument_that_names_code_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match="names Python code that every node would run"):
        ModelSettings.model_validate({"source": "embedded", "engine": {name: value}})
    trusted = {"source": "embedded", "engine": {name: value}, "trust_remote_code": True}
    recipe = Recipe.model_validate({"out": "x", "models": {"m": trusted}, "voters": {"v": {"model": "m"}}})
    assert any(f"WARNING: models.m.engine.{name}" in line for line in foreign_code(recipe))


@pytest.mark.parametrize(
    "engine",
    [
        {"enforce_eager": True, "language_model_only": True, "max_lora_cls_labels": 3, "scheduler_cls": None},
        {"distributed_executor_backend": "mp", "compilation_config": {"backend": "inductor", "pass_config": {}}},
        {"hf_overrides": {"num_experts_per_tok": 1}, "limit_mm_per_prompt": {"image": 0}},
    ],
)
def test_other_engine_arguments_pass(engine: dict[str, Any]) -> None:
    assert ModelSettings.model_validate({"source": "embedded", "engine": engine}).engine == engine


def gguf(tensors: int = 0, **fields: str) -> bytes:
    """Return the bytes of a GGUF file with text fields and no data."""
    content = b"GGUF" + struct.pack("<IQQ", 3, tensors, len(fields))
    for name, text in fields.items():
        key = name.replace("__", ".").encode()
        content += struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(text)) + text.encode()
    return content


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (gguf(), "it names no architecture"),
        (gguf(general__architecture="llama"), "it has no tensors"),
        (gguf(general__architecture="llama")[:30], "cannot be turned into a plain model"),
        (gguf(1, general__architecture="llama"), "it lacks llama.block_count"),
        (b"GGUF", "cannot be turned into a plain model"),
        (b"GGUF" + b"\xff" * 200, "cannot be turned into a plain model"),
    ],
)
def test_a_gguf_file_that_says_nothing_is_one_line(content: bytes, why: str, tmp_path: Path) -> None:
    """Without sizes of its own transformers would make its default model, which takes minutes."""
    (tmp_path / "m.gguf").write_bytes(content)
    left = tmp_path / "cache/models/.m-0.killed"
    left.mkdir(parents=True)
    with pytest.raises(UserError, match=why) as error:
        convert(tmp_path / "m.gguf", tmp_path / "cache")
    assert "\n" not in str(error.value)
    assert [path for path in left.parent.iterdir() if path.is_dir()] == [left], "another model's is left"


def test_a_killed_conversion_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf())
    monkeypatch.setattr("codemmlu.engine.gguf._convert", lambda file, target: (target / "config.json").write_text(""))
    target = convert(tmp_path / "m.gguf", tmp_path / "cache")
    shutil.rmtree(target)
    (target.parent / f".{target.name}.half").mkdir()
    assert convert(tmp_path / "m.gguf", tmp_path / "cache") == target
    assert [path.name for path in target.parent.iterdir() if path.is_dir()] == [target.name]


def test_a_conversion_ends_with_the_job_that_wants_it(tmp_path: Path) -> None:
    child = "import time\nfrom codemmlu.engine.gguf_reader import _end_with_parent as end\n"
    child += "end(); print('on', flush=True); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = psutil.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout.readline() == b"on\n"
    (below,) = process.children()
    process.kill()
    process.wait()
    psutil.wait_procs([below], timeout=60)
    assert not below.is_running() or below.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("2_Dense/pytorch_model.bin", "", "2_Dense/pytorch_model.bin without safetensors beside it"),
        ("2_Dense/weights.pkl", "", "2_Dense/weights.pkl without safetensors"),
        ("modules.json", '[{"type": "evil.Layer", "path": ""}]', "evil.Layer, which is not of sentence_transformers"),
        *(("modules.json", broken, "modules.json is broken") for broken in ("", "{", "[" * 100_000)),
    ],
)
def test_an_embedder_runs_no_code(tmp_path: Path, name: str, content: str, why: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")  # Beside safetensors it is not read.
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=why):
        _check_modules(tmp_path)


def test_a_plain_embedder_passes(tmp_path: Path) -> None:
    kinds = ["sentence_transformers.models.Transformer", "sentence_transformers.sentence_transformer.modules.Pooling"]
    (tmp_path / "modules.json").write_text(json.dumps([{"type": kind} for kind in kinds]))
    _check_modules(tmp_path)


SECRETS = ["abc/def+ghi", "abc@def", "abc def", "a/b@c d/e", "x:y", "it's", 'sa"y', "ü/", "k" * 100 + " " + "l" * 100]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "key", ["out", "questions.source", "voters.smol.adapter", "finetune.start", "examples.index", "models.smol.source"]
)
def test_a_key_in_an_address_is_printed_nowhere(key: str, secret: str, tmp_path: Path) -> None:
    address = f"s3://AKIAKEY:{secret}@bucket/x"
    more = ["finetune={model: smol}", "examples.source=sample"] if key.startswith("finetune") else []
    quoted = json.dumps(address, ensure_ascii=False)
    done = job("run", "recipes/demo.yaml", "--dry-run", f"out={tmp_path}/x", *more, f"{key}={quoted}")
    assert "AKIAKEY" not in done.out + done.err
    assert secret not in done.out + done.err
    unknown = job("run", "recipes/demo.yaml", f"--{key}={address}")
    assert unknown.code == 2
    assert secret not in unknown.err


@pytest.mark.parametrize("secret", SECRETS)
def test_a_key_in_an_address_is_kept_nowhere(secret: str) -> None:
    address = f"s3://AKIAKEY:{secret}@bucket/x.csv"
    voters = {"v": {"model": "m", "adapter": address}}
    recipe = Recipe.model_validate(
        {"out": address, "questions": {"source": address}, "models": {"m": {"source": "embedded"}}, "voters": voters}
    )
    kept = redact_credentials(recipe.as_yaml())
    assert kept.count("s3://bucket/x.csv") == 3
    assert "AKIAKEY" not in kept
    assert secret not in kept
    assert secret not in command_line("run", [f"out={address}", "questions.limit=3"])


@pytest.mark.parametrize(
    "text",
    ["s3://bucket/a@b.csv", "data at s3://b/x, of owner/name@main", "http://host:8265 answers", "a@b c://d e@f g/h"],
)
def test_an_address_without_keys_is_shown_whole(text: str) -> None:
    assert redact_credentials(text) == text
