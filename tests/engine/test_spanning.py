"""GPUs held for an engine on several nodes: on a Ray that believes to have some."""

import json
import subprocess
import sys

from tests.runs import ROOT

PROGRAM = """
import json, os, signal, time
from codemmlu import cluster
import ray

ray.init(address="local", include_dashboard=False, _node_ip_address="127.0.0.1", num_cpus=2, num_gpus=3,
         logging_level="ERROR", log_to_driver=False)
from ray.util import placement_group_table


@ray.remote(num_cpus=0, max_restarts=1, max_task_retries=0)
class Engine:
    def __init__(self):
        from codemmlu.engine import spanning
        self.spanning, self.group = spanning, spanning.hold(2, seconds=30)

    def pid(self):
        return os.getpid()

    def too_many(self):
        try:
            self.spanning.hold(4, seconds=1)
        except Exception as error:
            return str(error)

    def close(self):
        self.spanning.release(self.group)


def groups():
    return sorted(group["state"] for group in placement_group_table().values())


def free():
    for _ in range(100):
        if ray.available_resources().get("GPU", 0) == 3:
            return True
        time.sleep(0.1)
    return False

engine = Engine.remote()
first = ray.get(engine.pid.remote())
said = {"held": groups()}
os.kill(first, signal.SIGKILL)
for _ in range(100):
    try:
        second = ray.get(engine.pid.remote())
        break
    except ray.exceptions.RayError:
        time.sleep(0.2)
said["replaced"], said["another"] = groups(), second != first
ray.get(engine.close.remote())
said["released"], said["free"] = groups(), free()
said["too_many"] = ray.get(engine.too_many.remote())
said["after"] = free()
print(json.dumps(said))
"""


def test_a_group_lives_as_long_as_its_engine() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["held"] == ["CREATED"]
    assert said["another"]
    assert said["replaced"] == ["CREATED", "REMOVED"], "what the killed one held was given back"
    assert said["released"] == ["REMOVED", "REMOVED"]
    assert said["free"] and said["after"]  # noqa: PT018
    assert said["too_many"] == "an engine of 4 GPUs waited 1 s for them; lower replicas, or end other jobs"
