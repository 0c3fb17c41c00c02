"""`ray up cluster.yaml`, run for real against an EC2 on this machine; ssh and rsync write down their commands."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto.server import ThreadedMotoServer

from tests.support.quoted import planned
from tests.support.ray import RAY
from tests.support.runs import ROOT

pytestmark = pytest.mark.soak  # the cluster launcher and a local EC2 take half a minute to start

FILE = ROOT / "cluster.yaml"
REGION = "us-east-1"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}
# Stands for both: writes its arguments down, and keeps what rsync would have sent.
STUB = """#!{python} -IS
import json, os, shutil, sys
sent = [a for a in sys.argv[1:] if os.path.isfile(a)]
if sys.argv[0].endswith("rsync"):
    shutil.copy(sent[-1], "{folder}/sent-" + sys.argv[-1].rpartition("/")[2])
with open("{folder}/commands", "a") as commands:
    commands.write(json.dumps(sys.argv) + "\\n")
"""


@dataclass(frozen=True)
class Launch:
    """What `ray up` left: an EC2, what it ran over ssh in order, and the configuration for the head's autoscaler."""

    ec2: Any
    commands: list[str]
    remote: dict[str, Any]

    def instances(self) -> list[dict[str, Any]]:
        """All instances, with the keys of EC2's API."""
        found = self.ec2.describe_instances()["Reservations"]
        return [instance for reservation in found for instance in reservation["Instances"]]

    def head(self) -> dict[str, Any]:
        """Return the only instance that is a head; tests may have started others, whose types they try."""
        node = {"Key": "ray-node-type", "Value": "head"}
        (head,) = [instance for instance in self.instances() if node in instance.get("Tags", [])]
        return head


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """A cluster that `ray up -y cluster.yaml` started, in an account that has only the two instance profiles."""
    folder = tmp_path_factory.mktemp("up")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {**KEYS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    given = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": REGION}
    iam = boto3.client("iam", endpoint_url=environment["AWS_ENDPOINT_URL"], **given)
    for name in ("codemmlu-head", "codemmlu-worker"):
        iam.create_instance_profile(InstanceProfileName=name)
    (folder / ".ray").mkdir()
    (folder / ".ray" / "auth_token").write_text("0" * 64)
    for name in ("ssh", "rsync"):
        (folder / name).write_text(STUB.format(python=sys.executable, folder=folder))
        (folder / name).chmod(0o755)
    environment |= {"HOME": str(folder), "TMPDIR": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"}
    line = [RAY, "up", "--yes", "--no-config-cache", str(FILE)]
    done = subprocess.run(line, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    commands = [json.loads(line) for line in (folder / "commands").read_text().splitlines()]
    remote = yaml.safe_load((folder / "sent-ray_bootstrap_config.yaml").read_text())
    ec2 = boto3.client("ec2", endpoint_url=environment["AWS_ENDPOINT_URL"], **given)
    yield Launch(ec2, [words[-1] for words in commands], remote)
    server.stop()


def test_the_head_is_one_instance_without_a_gpu(launch: Launch) -> None:
    head = launch.head()
    assert head["InstanceType"] == "m7i.xlarge"
    assert head["IamInstanceProfile"]["Arn"].endswith("/codemmlu-head")
    assert launch.remote["available_node_types"]["head"]["resources"] == {"CPU": 4, "GPU": 0}
    assert launch.remote["available_node_types"]["head"]["max_workers"] == 0


def test_only_ssh_comes_in_from_outside(launch: Launch) -> None:
    head = launch.head()
    (name,) = head["SecurityGroups"]
    assert name["GroupName"] == "codemmlu-ray"
    (group,) = launch.ec2.describe_security_groups(GroupIds=[name["GroupId"]])["SecurityGroups"]
    outside = [rule for rule in group["IpPermissions"] if rule["IpRanges"] or rule.get("Ipv6Ranges")]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in outside] == [(22, 22)]
    within = [rule for rule in group["IpPermissions"] if rule not in outside]
    assert [pair["GroupId"] for rule in within for pair in rule["UserIdGroupPairs"]] == [name["GroupId"]]


def test_a_token_locks_ray_and_the_dashboard_stays_on_loopback(launch: Launch) -> None:
    (start,) = [command for command in launch.commands if "ray start --head" in command]
    assert "--dashboard-host=127.0.0.1" in start
    (export,) = [command for command in launch.commands if "export RAY_AUTH_MODE=token" in command]
    assert launch.commands.index(export) < launch.commands.index(start)
    assert "~/.bashrc" in export
    assert any(command.endswith("/home/ubuntu/.ray/auth_token") for command in launch.commands)


def test_the_environment_is_there_before_ray_starts(launch: Launch) -> None:
    wanted = ["codemmlu/pyproject.toml", "uv/0.13", "uv venv", "--extra gpu", "boto3", "ray stop", "ray start --head"]
    places = [next(i for i, command in enumerate(launch.commands) if part in command) for part in wanted]
    assert places == sorted(places)


def test_nodes_have_the_ray_that_launches_them() -> None:
    setup = " ".join(yaml.safe_load(FILE.read_text())["setup_commands"])
    assert re.findall(r"ray==([0-9.]+)", setup) == [version("ray")]


def test_ec2_has_what_the_workers_promise(launch: Launch) -> None:
    sizes = {}
    for name, node in launch.remote["available_node_types"].items():
        kind = node["node_config"]["InstanceType"]
        (found,) = launch.ec2.describe_instance_types(InstanceTypes=[kind])["InstanceTypes"]
        gpus = found.get("GpuInfo", {"Gpus": []})["Gpus"]
        sizes[name] = {"CPU": found["VCpuInfo"]["DefaultVCpus"], "GPU": sum(gpu["Count"] for gpu in gpus)}
        sizes[name] |= {f"accelerator_type:{gpu['Name']}": 1 for gpu in gpus}
    promised = yaml.safe_load(FILE.read_text())["available_node_types"]
    assert sizes == {name: node["resources"] for name, node in promised.items()}


@pytest.mark.parametrize(("kind", "lifecycle"), [("gpu-spot", "spot"), ("gpu-on-demand", None)])
def test_ec2_takes_a_worker(launch: Launch, kind: str, lifecycle: str | None) -> None:
    config = dict(launch.remote["available_node_types"][kind]["node_config"])
    subnet = config.pop("SubnetIds")[0]  # as Ray does before it asks EC2
    (node,) = launch.ec2.run_instances(**config, SubnetId=subnet, MinCount=1, MaxCount=1)["Instances"]
    launch.ec2.terminate_instances(InstanceIds=[node["InstanceId"]])
    assert node.get("InstanceLifecycle") == lifecycle
    assert node["IamInstanceProfile"]["Arn"].endswith("/codemmlu-worker")


def to_launch(remote: dict[str, Any], engines: int, gpus: int, failed: str | None = None) -> dict[str, int]:
    """What the autoscaler starts for so many engines, right after a type could not be had."""
    from ray.autoscaler.v2.event_logger import AutoscalerEventLogger
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.schema import AutoscalerInstance
    from ray.autoscaler.v2.utils import ResourceRequestUtil
    from ray.core.generated.autoscaler_pb2 import NodeState, NodeStatus
    from ray.core.generated.instance_manager_pb2 import Instance, NodeKind

    class Silent:
        """Takes events, which are of no interest here."""

        def __getattr__(self, _: str) -> Any:
            return lambda *_, **__: None

    # Without the ssh key, which is on the head alone.
    config = AutoscalingConfig({**remote, "auth": {"ssh_user": "ubuntu"}}, skip_content_hash=True)
    head = AutoscalerInstance(
        cloud_instance_id="i-head",
        ray_node=NodeState(ray_node_type_name="head", status=NodeStatus.RUNNING, total_resources={"CPU": 4}),
        im_instance=Instance(
            instance_id="head", instance_type="head", status=Instance.RAY_RUNNING, node_kind=NodeKind.HEAD
        ),
    )
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=config.get_node_type_configs(),
        max_num_nodes=config.get_max_num_nodes(),
        current_instances=[head],
        resource_requests=ResourceRequestUtil.group_by_count(
            [ResourceRequestUtil.make({"GPU": gpus}) for _ in range(engines)]
        ),
        recoverable_resource_availabilities={failed: 0.0} if failed else {},
    )
    reply = ResourceDemandScheduler(AutoscalerEventLogger(Silent())).schedule(request)
    return {one.instance_type: one.count for one in reply.to_launch}


def test_nothing_is_started_while_no_engine_waits(launch: Launch) -> None:
    assert to_launch(launch.remote, engines=0, gpus=1) == {}


def test_engines_get_spot_nodes_and_never_more_than_the_most(launch: Launch) -> None:
    assert to_launch(launch.remote, engines=3, gpus=1) == {"gpu-spot": 1}
    assert to_launch(launch.remote, engines=2, gpus=4) == {"gpu-spot": 2}
    assert sum(to_launch(launch.remote, engines=50, gpus=4).values()) == 4


def test_on_demand_nodes_stand_in_for_missing_spot_nodes(launch: Launch) -> None:
    assert to_launch(launch.remote, engines=2, gpus=4, failed="gpu-spot") == {"gpu-on-demand": 2}


def test_ray_refuses_a_misspelt_key(tmp_path: Path) -> None:
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load(FILE.read_text())
    validate_config(prepare_config(config))
    with pytest.raises(ValidationError, match="idle_timeout_minute"):
        validate_config(prepare_config({**config, "idle_timeout_minute": 3}))


def test_the_quoted_job_has_a_plan(tmp_path: Path) -> None:
    (command,) = re.findall(r"ray job submit .* -- (python jobs/.*)", FILE.read_text())
    done = planned(command, tmp_path, "--gpus", "4xL4")
    assert done.code == 0, done.err
    assert "40 questions" in done.out
    assert "Nothing was started" in done.out
