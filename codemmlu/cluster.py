"""Ray: joining the cluster that is there or starting one here, and what it has.

Import this module, not ray: a cluster of our own listens on loopback only (Ray has no passwords), and Ray decides that
when it is imported.
"""

import atexit
import hashlib
import logging
import os
import re
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from codemmlu.engine.placement.gpus import Node, Resources, grown, kind_of, kinds_here
from codemmlu.engine.placement.placement import built_for_cpu
from codemmlu.errors import EngineDied, UserError
from codemmlu.run_dir import RunDir


def _started_here() -> str | None:
    """The address of a cluster that `ray start` left on this machine, if it still answers."""
    try:
        address = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster").read_text().strip()
        _reach(address)
    except (OSError, ValueError):  # none, or one that is gone
        return None
    return address


def _reach(address: str) -> None:
    """Raises OSError or ValueError where nothing listens."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=2).close()


_GIVEN = os.environ.get("RAY_ADDRESS")
_HERE = _started_here()
if (_HERE or "127.0.0.1:").startswith("127.0.0.1:") and (_HERE or not _GIVEN):
    # Where this is 0, as it is on those systems, Ray stays on loopback instead of looking for an outer address.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
if not (_GIVEN or _HERE):
    # Ray asks for a token even on loopback, and would leave one in the home directory that then locks every cluster
    # started by hand. One for this process and its children is enough.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
# A Ray of our own runs its workers at the priority of everything else: by default they, and so an engine on the CPU,
# give way to whatever runs on the machine, and every core waits for the one that was taken away.
os.environ.setdefault("RAY_worker_niceness", "0")
# Ray is joined here and nowhere else: what still runs when a job ends must not start it anew.
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"

import ray  # noqa: E402  (after the line above)
import ray.data  # noqa: E402
import ray.exceptions  # noqa: E402

# Seconds that a cluster whose address is given has until somebody listens there.
_PATIENCE = 10


def join(gpus: str | None = None) -> Resources:
    """Joins the running cluster, or starts one on this machine that ends with this process.

    gpus: what the recipe says that it may grow to; None: it stays what it is
    """
    if not ray.is_initialized():
        on_terminate = signal.getsignal(signal.SIGTERM)
        # Workers' own output stays in Ray's log files; what people must know comes back as rows and errors.
        quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
        if _GIVEN or _HERE:
            _join(_GIVEN or "auto", quiet)  # auto finds the cluster's token, an address does not
        else:
            start_here(**quiet)
        signal.signal(signal.SIGTERM, on_terminate)  # Ray puts its own there
        atexit.register(_leave)
    alive = [node for node in ray.nodes() if node["Alive"]]
    cpus = int(sum(node["Resources"].get("CPU", 0) for node in alive))
    return grown(gpus, cpus) if gpus else Resources(() if built_for_cpu() else _nodes(alive), cpus)


def start_here(**options: Any) -> None:
    """Start a Ray on this machine, on loopback, that ends with this process.

    Args:
        **options: Passed on to ray.init.

    Raises:
        UserError: Ray did not start in two tries of 30 s each.
    """
    for tries_left in (1, 0):
        try:
            ray.init(address="local", include_dashboard=False, _node_ip_address="127.0.0.1", **options)
            return
        except Exception as error:  # Ray 2.60 raises no narrower one when its node takes more than 30 s to start
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
            if not tries_left:
                raise UserError(
                    "Ray could not start on this machine within a minute, twice; try again when it is less busy, "
                    "or start it by hand with `ray start --head`"
                ) from None


def _leave() -> None:
    """End this process's Ray without what its C++ core writes on stderr about tasks that end with it."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    ray.shutdown()
    os.dup2(kept, 2)
    os.close(kept)
    os.close(nowhere)


def _nodes(alive: Iterable[Mapping[str, Any]]) -> tuple[Node, ...]:
    """The GPUs of Ray's nodes, for those that have some."""
    found = []
    for node in alive:
        has = node["Resources"]
        kinds = [kind_of(name.partition(":")[2]) for name in has if name.startswith("accelerator_type:")]
        kind = kinds[0] if len(kinds) == 1 else None
        if int(has.get("GPU", 0)) >= 1:
            found.append(Node(int(has["GPU"]), _told(node["NodeID"]) or kind if kind == "A100" else kind))
    return tuple(found)


def _told(node: str) -> str | None:
    """What a node's driver says of its GPUs: Ray calls those of 40 and of 80 GB alike."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node, soft=False)
    try:
        kinds = ray.get(ray.remote(kinds_here).options(num_cpus=0, scheduling_strategy=there).remote(), timeout=60)
    except ray.exceptions.RayError:  # it is busy, or has just gone
        return None
    return kinds[0] if len(set(kinds)) == 1 else None


def _join(address: str, quiet: dict[str, Any]) -> None:
    try:
        if re.fullmatch(r"[^:/]+:\d+", address):
            _wait_for(address)
        ray.init(address=address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:  # none, another version's, another kind of address
        why = (str(error) or type(error).__name__).splitlines()[0].partition(". ")[0]
        raise UserError(f"RAY_ADDRESS: no Ray cluster answers at {address} ({why}); start it, or unset it") from None


def _wait_for(address: str) -> None:
    """A head that has only just been started may need some seconds; Ray would wait minutes for one that is gone."""
    last = time.monotonic() + _PATIENCE
    while True:
        try:
            return _reach(address)
        except (OSError, ValueError):
            if time.monotonic() > last:
                raise
            time.sleep(0.5)


def here() -> Any:
    """Where this process is, for an actor that has to live as long: of other nodes any may go while the run goes on."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


class _Holder:
    """Held by one run; it ends with that run's driver."""


@contextmanager
def lock(run: RunDir) -> Iterator[None]:
    """Holds a run directory that has an address instead of a path, by a name in the cluster.

    Raises UserError when another job of this cluster holds it. Jobs of two clusters do not see each other.
    """
    join()
    # A hash: everybody in the cluster sees names of actors, and an address may carry keys.
    name = f"run {hashlib.sha256(run.address.encode()).hexdigest()}"
    try:
        kept = ray.remote(_Holder).options(name=name, namespace="codemmlu", num_cpus=0, scheduling_strategy=here())
        holder = kept.remote()
    except ValueError:
        raise UserError(
            f"out: another run is writing to {run.shown}; wait for it, stop it, or give another `out`"
        ) from None
    try:
        yield
    finally:
        ray.kill(holder)


def reason(error: Exception) -> Exception:
    """What to tell the person: a mistake of theirs that a worker found, or why the engines are gone.

    Of an error in an actor Ray brings back the traceback as text, and its type only there.
    """
    said = str(error)
    if mistake := re.search(rf"{UserError.__module__}\.{UserError.__name__}: (.+)", said):
        return UserError(mistake[1])
    if died := re.search(rf"{EngineDied.__module__}\.{EngineDied.__name__}: (.+)", said):
        return EngineDied(f"the run stopped: {died[1]}")
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    why = next((line for line in lines if "Worker exit detail" in line or "OutOfMemory" in line), None)
    return EngineDied(f"the run stopped: {why or (lines[-1] if lines else type(error).__name__)}")


def call(task: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives back as a task of Ray's, on a core of its own. Raises as `reason` tells."""
    (result,) = results([ray.remote(task).remote(*arguments)])
    return result


def results(tasks: list[Any]) -> list[Any]:
    """What tasks give back, in their order. Raises as `reason` tells."""
    try:
        found: list[Any] = ray.get(tasks)
    except ray.exceptions.RayError as error:
        raise reason(error) from error
    return found


def quiet() -> None:
    """Ray Data's own progress and plan descriptions: ours says the same for people."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_consecutive_actor_init_deaths = 0
    # A pool is full when every actor has as many blocks under way as it takes: none waits within an actor, and so the
    # share that Ray wants to see before it adds an actor (1.75 of that) would never come.
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 0.9
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what it logs as an error also reaches us as one


@contextmanager
def without_actor_warning() -> Iterator[None]:
    """Keeps one line of Ray's C++ core off stderr.

    For every actor pool that may restart its actors Ray 2.60 prints an alarm about lost constructor arguments. They
    are held by this process for as long as the pool lives. Nothing in Python can turn the line off.
    """
    kept, (source, sink) = os.dup(2), os.pipe()
    os.dup2(sink, 2)
    os.close(sink)

    def copy() -> None:
        with os.fdopen(source, "rb", buffering=0) as lines, os.fdopen(kept, "wb", buffering=0, closefd=False) as out:
            while chunk := lines.read(2**16):
                out.write(
                    b"".join(x for x in chunk.splitlines(True) if b"constructor arguments in the object" not in x)
                )

    copier = threading.Thread(target=copy, daemon=True)
    copier.start()
    try:
        yield
    finally:
        os.dup2(kept, 2)
        copier.join(timeout=0.5)  # a child that inherited the pipe may hold it open: then the thread ends with us
        if not copier.is_alive():
            os.close(kept)


def together(tasks: Sequence[Callable[[], None]]) -> None:
    """Runs all tasks at once. The first error, or Ctrl-C, is this process's end, and so the others' too.

    Nothing can be awaited of a thread that waits for a cluster which is gone: they are left to end with the process.
    """
    told: SimpleQueue[BaseException | None] = SimpleQueue()

    def run(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:  # to be raised where people wait for it
            told.put(error)
        else:
            told.put(None)

    for task in tasks:
        threading.Thread(target=run, args=(task,), daemon=True).start()
    for _ in tasks:
        if error := told.get():
            raise error


def unshared(run: RunDir, node: str) -> UserError:
    """The mistake of a run directory that a node does not see."""
    return UserError(
        f"out: {run.shown} is not the same directory on every node ({node} does not see it); "
        "give a shared path or an s3:// or gs:// address"
    )


def refuse_unshared(run: RunDir) -> None:
    """On several nodes, a probe proves that every one of them sees the run directory."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2 or not run.is_local:
        return
    run.write(".shared", b"")
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    seen = [
        ray.remote(os.path.exists)
        .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote(run.path(".shared"))
        for node in nodes
    ]
    blind = [node["NodeManagerAddress"] for node, one in zip(nodes, seen, strict=True) if not _true_or_gone(one)]
    if blind:
        raise unshared(run, blind[0])


def _true_or_gone(told: Any) -> bool:
    """What a node tells; True of one that died and is listed for some seconds more, as nothing will run there."""
    try:
        return bool(ray.get(told))
    except (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError, ray.exceptions.WorkerCrashedError):
        return True
