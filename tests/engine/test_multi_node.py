"""GPUs held for an engine on several nodes: on a Ray that believes to have two."""

import os
import signal
from typing import Any

import pytest


@pytest.fixture
def holder(ray_cluster: dict[str, str]) -> Any:
    """A class of actors that hold GPUs as an engine does; one that is killed is replaced once."""
    import ray

    @ray.remote(num_cpus=0, max_restarts=1, max_task_retries=-1)
    class Holder:
        def __init__(self, devices: int) -> None:
            from codemmlu.engine import multi_node

            self.multi_node, self.group = multi_node, multi_node.hold(devices, seconds=60)

        def pid(self) -> int:
            return os.getpid()

        def name(self) -> str:
            return str(ray.get_runtime_context().get_actor_id())

        def hold(self, devices: int) -> str:
            try:
                self.multi_node.hold(devices, seconds=1)
            except Exception as error:
                return str(error)
            return "held"

        def close(self) -> None:
            self.multi_node.release(self.group)

    return Holder


def states_of(actor: str) -> list[str]:
    """Return the state of every group that an actor has made."""
    from ray.util import placement_group_table

    return sorted(group["state"] for group in placement_group_table().values() if actor in group["name"])


def test_a_group_lives_as_long_as_its_engine(holder: Any) -> None:
    import ray

    engine = holder.remote(2)
    name, first = ray.get([engine.name.remote(), engine.pid.remote()])
    assert states_of(name) == ["CREATED"]
    os.kill(first, signal.SIGKILL)
    assert ray.get(engine.pid.remote(), timeout=60) != first
    assert states_of(name) == ["CREATED", "REMOVED"], "what the killed one held was not given back"
    ray.get(engine.close.remote())
    assert states_of(name) == ["REMOVED", "REMOVED"]
    another = holder.remote(2)  # ready once it holds both
    assert states_of(ray.get(another.name.remote(), timeout=60)) == ["CREATED"]
    ray.get(another.close.remote())


def test_gpus_that_never_come_are_waited_for_no_longer(holder: Any) -> None:
    import ray

    engine = holder.remote(1)
    name, message = ray.get([engine.name.remote(), engine.hold.remote(3)])
    assert message == "an engine of 3 GPUs waited 1 s for them; lower replicas, or end other jobs"
    assert states_of(name) == ["REMOVED", "REMOVED"], "the group goes on waiting"
