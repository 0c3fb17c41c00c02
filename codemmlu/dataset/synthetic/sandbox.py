"""The sandbox: a process for Python programs, bounded in time and memory, without files or network.

Only programs that this project generates run here, never what a model or a user wrote. The bounds are there so that a
mutated loop that never ends, or a list that never stops growing, costs a question and nothing else.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

_SECONDS = 0.5  # of a core's time for one program, so that other load on the machine changes nothing
_MEMORY = 512 * 2**20  # bytes of address space
_MOST = 2_000  # characters of output; a longer output is no choice
# The child process loads the modules that programs may import, blocks files, processes and the network by an audit
# hook, and then runs the programs one after the other.
_CHILD = """
import sys, json, io, signal, contextlib, math, collections, functools, itertools
programs, seconds, most = json.loads(sys.stdin.read())
modules = frozenset(sys.modules)
def shut(event, arguments):
    kind = event.partition(".")[0]
    if event == "import" and arguments[0] not in modules:
        raise PermissionError(event)
    if event == "open" or kind in ("socket", "subprocess", "shutil", "ctypes", "os", "urllib", "tempfile", "mmap"):
        raise PermissionError(event)
def late(*_):
    raise TimeoutError
signal.signal(signal.SIGVTALRM, late)
sys.addaudithook(shut)
sys.setrecursionlimit(500)
told = []
for program in programs:
    out = io.StringIO()
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        with contextlib.redirect_stdout(out):
            exec(compile(program, "program", "exec"), {"__name__": "__main__"})
        error = None
    except BaseException as caught:
        error = type(caught).__name__
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    told.append([out.getvalue()[:most], error])
print(json.dumps(told))
"""


@dataclass(frozen=True)
class Ran:
    """The result of one program.

    Attributes:
        printed: The output, cut where it is too long.
        error: The name of the exception that ended the program; None where the program came to its end.
    """

    printed: str
    error: str | None


def _bound() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(programs: Sequence[str]) -> list[Ran]:
    """Run programs, each by itself.

    Returns:
        A result per program, in order. A program that takes the process down with it has the error `Killed`.
    """
    if not programs:
        return []
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _CHILD],
            input=json.dumps([list(programs), _SECONDS, _MOST]),
            capture_output=True,
            text=True,
            timeout=60 + 10 * _SECONDS * len(programs),
            env={},
            cwd="/",
            preexec_fn=_bound,
        )
        return [Ran(*result) for result in json.loads(done.stdout)]
    except (ValueError, subprocess.TimeoutExpired):
        if len(programs) == 1:
            return [Ran("", "Killed")]
        # A program took the process down: running the halves apart finds that program.
        half = len(programs) // 2
        return run(programs[:half]) + run(programs[half:])
