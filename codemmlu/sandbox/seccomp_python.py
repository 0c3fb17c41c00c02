"""The backend `seccomp`: Python programs that may compute and print, and to which the kernel refuses all else.

It needs no privilege and no namespace, so it works in containers too. An interpreter loads the modules that programs
may import, and runs each program in a fork under a filter of system calls: no file, process, thread, network, signal.
What a program imports besides is refused with a PermissionError, which says nothing about the program.
"""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace

from codemmlu.sandbox import languages, seccomp
from codemmlu.sandbox.protocol import Limits, Outcome, Program, SandboxMissing, Status
from codemmlu.sandbox.python_batch import Result, driver, run_batch
from codemmlu.sandbox.supervisor import Ended, supervise

# What an interpreter raises where the filter refuses a call: this says nothing about the program.
_REFUSED = ("PermissionError", "ImportError", "ModuleNotFoundError", "OSError", "RuntimeError")
_ERRORS: dict[str, Status] = {"TimeoutError": "timeout", "MemoryError": "memory", "Killed": "timeout"}


class SeccompPython:
    """Python programs under a filter of system calls."""

    name = "seccomp"

    def __init__(self) -> None:
        """Prove, with tiny programs, that the filter works here.

        Raises:
            SandboxMissing: The kernel or the architecture has no such filter.
        """
        if not seccomp.supported() or not shutil.which("prlimit"):
            raise SandboxMissing("seccomp: it needs Linux on x86_64 or aarch64, and `prlimit` of util-linux")
        tried = self.run_python(["print(6 * 7)", "import os\nos.listdir('/')"], Limits(seconds=5.0))
        if tried != [("42\n", None), ("", "PermissionError")]:
            raise SandboxMissing(f"seccomp: filters of system calls are not allowed here ({tried[0][1]})")

    def languages(self) -> dict[str, str]:
        """Return Python and its version."""
        return {"python": languages.version("python") or ""}

    def run(self, program: Program, limits: Limits) -> Outcome:
        """Run, or only check, one Python program."""
        source = program.source
        if program.action == "check":
            source = f"compile({source!r}, 'program', 'exec')"
        ((printed, error),) = self.run_python([source], replace(limits, seconds=float(limits.cpu)))
        status: Status = "ok" if error is None else _ERRORS.get(error, "runtime_error")
        if error in ("SyntaxError", "IndentationError", "TabError"):
            status = "compile_error"
        elif error in _REFUSED:
            status = "unsupported"
        return Outcome(status, printed, error or "", 0 if error is None else 1, 0.0)

    def run_python(self, sources: Sequence[str], limits: Limits, setup: str = "") -> list[Result]:
        """Run short Python programs in one start of the interpreter, each in a process of its own."""

        def start(job: bytes, whole: Limits) -> Ended:
            memory = whole.memory * 2**20
            bounds = [f"--as={memory}", "--core=0", f"--fsize={whole.files * 2**20}", "--nofile=64", "--"]
            command = [shutil.which("prlimit") or "prlimit", *bounds, sys.executable, "-I", "-S", "-c", driver()]
            return supervise(command, whole, job, environment={"PYTHONHASHSEED": "0", "LANG": "C.UTF-8"})

        return run_batch(start, sources, limits, setup, seccomp.computation())
