"""Safety: what a run directory, a model or the environment may not do to who runs a job."""

import ast
from pathlib import Path

import pytest

from codemmlu.cli.job import command_line
from codemmlu.run_dir import RunDir
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
