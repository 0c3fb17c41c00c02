"""deploy/rayjob.yaml is what KubeRay takes, key by key, and does what its comments say of retries and GPUs."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.support.quoted import asked_for, planned
from tests.support.runs import ROOT

MANIFEST: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "rayjob.yaml").read_text())
SCHEMA = Draft202012Validator(json.loads(Path(__file__).with_name("rayjob_schema.json").read_text()))
# Below these a person chooses the names: parameters of `ray start`, kinds of resources.
FREE = ("rayStartParams", "limits", "requests")


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every key that Kubernetes reads."""
    if path and path[-1] in FREE:
        return
    for key, below in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if isinstance(value, dict):
            yield (*path, key)
        yield from places(below, (*path, key))


def faults(manifest: dict[str, Any]) -> list[str]:
    return [error.message for error in SCHEMA.iter_errors(manifest)]


def test_kuberay_takes_it() -> None:
    Draft202012Validator.check_schema(SCHEMA.schema)
    assert faults(MANIFEST) == []


@pytest.mark.parametrize("path", list(places(MANIFEST)), ids=lambda path: ".".join(map(str, path)))
def test_a_misspelt_key_is_found(path: tuple[str | int, ...]) -> None:
    wrong = copy.deepcopy(MANIFEST)
    parent: Any = wrong
    for step in path[:-1]:
        parent = parent[step]
    parent[f"{path[-1]}s"] = parent.pop(path[-1])
    assert any(f"'{path[-1]}s' was unexpected" in fault for fault in faults(wrong))


@pytest.mark.parametrize(
    ("key", "value"),
    [("backoffLimit", -1), ("backoffLimit", "1"), ("submissionMode", "K8sMode"), ("shutdownAfterJobFinishes", "yes")],
)
def test_a_wrong_value_is_found(key: str, value: object) -> None:
    assert faults({**MANIFEST, "spec": {**MANIFEST["spec"], key: value}})


def test_a_failed_run_is_tried_once_more_and_its_cluster_goes() -> None:
    spec = MANIFEST["spec"]
    assert spec["backoffLimit"] == 1  # more would repeat a person's mistake, which exits with 2, as often
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] <= 600
    assert "out=s3://" in spec["entrypoint"]  # or the second attempt would begin again


def test_gpus_are_rented_only_while_engines_wait() -> None:
    cluster = MANIFEST["spec"]["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["headGroupSpec"]["rayStartParams"]["num-gpus"] == "0"
    (head,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    assert "nvidia.com/gpu" not in head["resources"]["limits"]
    for group in cluster["workerGroupSpecs"]:
        (worker,) = group["template"]["spec"]["containers"]
        assert (group["minReplicas"], group["replicas"]) == (0, 0)
        assert int(worker["resources"]["limits"]["nvidia.com/gpu"]) >= 1


def test_every_pod_has_one_image_and_the_token_from_a_secret() -> None:
    cluster = MANIFEST["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    containers = [container for group in groups for container in group["template"]["spec"]["containers"]]
    assert len({container["image"] for container in containers}) == 1
    for container in containers:
        token, sampler = container["env"]
        assert sampler == {"name": "VLLM_USE_FLASHINFER_SAMPLER", "value": "0"}
        assert token["name"] == "HF_TOKEN"
        assert "secretKeyRef" in token["valueFrom"]


def test_the_cluster_is_locked_and_its_ray_is_the_projects() -> None:
    cluster = MANIFEST["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["rayVersion"] in asked_for()["ray"]


def test_the_entrypoint_has_a_plan(tmp_path: Path) -> None:
    done = planned(MANIFEST["spec"]["entrypoint"], tmp_path, "--gpus", "1xL4")
    assert done.code == 0, done.err
    assert "40 questions" in done.out
    assert "Nothing was started" in done.out
