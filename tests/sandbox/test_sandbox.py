"""Programs in the sandbox: what they print comes back, and how they ended."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from codemmlu.sandbox import BACKENDS, Limits, Program, Sandbox, SandboxMissing, backends, open_sandbox
from codemmlu.sandbox.languages import LANGUAGES, main_class

LIMITS = Limits(seconds=40, cpu=10, memory=1024)
HELLO = {
    "c": '#include <stdio.h>\nint main(void) { printf("%d\\n", 6 * 7); return 0; }',
    "c++": "#include <iostream>\nint main() { std::cout << 6 * 7 << std::endl; }",
    "java": "class Other {} public class Six { public static void main(String[] a) { System.out.println(6 * 7); } }",
    "javascript": "console.log(6 * 7)",
    "python": "print(6 * 7)",
    "perl": 'print 6 * 7, "\\n"',
    "bash": "echo $((6 * 7))",
    "php": '<?php echo 6 * 7, "\\n";',
    "ruby": "puts 6 * 7",
}


@pytest.fixture(params=BACKENDS)
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    """Each backend that works here."""
    try:
        return open_sandbox(request.param)
    except SandboxMissing as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("language", HELLO)
def test_a_program_prints_and_a_broken_one_is_refused(sandbox: Sandbox, language: str) -> None:
    if language not in sandbox.languages():
        pytest.skip(f"{language}: {sandbox.name} has no tool for it here")
    ran = sandbox.run(Program(language, HELLO[language]), LIMITS)
    assert (ran.status, ran.printed) == ("ok", "42\n")
    broken = sandbox.run(Program(language, HELLO[language] + "\n}}}(((", "check"), LIMITS)
    assert broken.status == "compile_error"


def test_a_check_runs_nothing(sandbox: Sandbox) -> None:
    checked = sandbox.run(Program("python", "print(1)", "check"), LIMITS)
    assert (checked.status, checked.printed) == ("ok", "")


def test_an_exception_is_a_runtime_error(sandbox: Sandbox) -> None:
    failed = sandbox.run(Program("python", "print(1)\nraise ValueError('x')"), LIMITS)
    assert (failed.status, failed.printed) == ("runtime_error", "1\n")
    assert "ValueError" in failed.errors


def test_a_batch_keeps_its_order_and_its_failures_apart(sandbox: Sandbox) -> None:
    sources = ["print(1)", "1 / 0", "while True: pass", "import os\nos._exit(3)", "print(2)"]
    assert sandbox.run_python(sources, Limits(seconds=0.5)) == [
        ("1\n", None),
        ("", "ZeroDivisionError"),
        ("", "TimeoutError"),
        ("", "Killed"),
        ("2\n", None),
    ]


def test_what_the_filter_refuses_is_no_outcome() -> None:
    try:
        sandbox = open_sandbox("seccomp")
    except SandboxMissing as missing:
        pytest.skip(str(missing))
    assert sandbox.run(Program("python", "open('/tmp/x')"), LIMITS).status == "unsupported"


def test_without_a_backend_the_reason_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codemmlu.sandbox.bubblewrap.shutil.which", lambda name: None)
    monkeypatch.setattr("codemmlu.sandbox.bubblewrap.importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("codemmlu.sandbox.seccomp.platform.machine", lambda: "riscv64")
    backends.open_sandbox.cache_clear()
    with pytest.raises(SandboxMissing, match=r"`bwrap` is missing; install bubblewrap .*; seccomp: it needs Linux"):
        open_sandbox()
    backends.open_sandbox.cache_clear()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("class A {} class B { public static void main(String[] a) {} }", "B"),
        ("public class A { static class C {} public static void main(String[] a) {} }", "A"),
        ("enum E { X; public static void main(String... a) {} }", "E"),
        ("int x = 1;", "Main"),
    ],
)
def test_the_class_with_main_is_found(source: str, name: str) -> None:
    assert main_class(source) == name


# A choice that writes to the memory or the descriptors of the process that holds the results of all choices.
_FORGING = """
import os
driver = f"/proc/{os.getppid()}"
for way in (lambda: open(f"{driver}/mem", "r+b"), lambda: open(f"{driver}/fd/1", "wb"), os.fork):
    try:
        way()
        print("ESCAPED")
    except OSError:
        print("held")
"""


def test_a_program_of_a_batch_reaches_no_other(sandbox: Sandbox) -> None:
    assert sandbox.run_python([_FORGING, "print(2)"], Limits(seconds=2)) == [("held\n" * 3, None), ("2\n", None)]


def test_a_batch_of_root_is_run_as_nobody(sandbox: Sandbox) -> None:
    ((printed, error),) = sandbox.run_python(["import os\nprint(os.getuid() == 0)"], Limits(seconds=2))
    assert (printed, error) == ("False\n", None)


def test_one_program_takes_no_processes_from_others() -> None:
    sandbox = bubblewrap()
    forks = (
        "import os, time\nfor _ in range(30):\n    if os.fork() == 0: time.sleep(20)\nprint(flush=True)\ntime.sleep(20)"
    )
    limits = Limits(seconds=6, memory=1024, processes=32)
    with ThreadPoolExecutor() as pool:
        crowd = pool.submit(sandbox.run, Program("python", forks), limits)
        time.sleep(2)
        ran = sandbox.run(Program("bash", "(echo $((6 * 7))) | cat"), replace(limits, seconds=20))
        assert crowd.result().status == "timeout"
    assert (ran.status, ran.printed) == ("ok", "42\n")


def test_a_shortage_is_no_fault_of_the_text() -> None:
    refusal = LANGUAGES["c"].refusal
    assert refusal("/program/main.c:1:5: error: unknown type name") == "compile_error"
    assert refusal("main.c:(.text+0x5): undefined reference to `f'") == "compile_error"
    assert refusal("gcc: fatal error: cannot execute 'cc1': vfork: Resource temporarily unavailable") == "unsupported"
    assert (
        refusal("gcc: internal compiler error: File size limit exceeded signal terminated program as") == "unsupported"
    )
    assert refusal("Killed") == "unsupported"
    assert LANGUAGES["java"].refusal("java.lang.OutOfMemoryError: Java heap space\nerror") == "unsupported"


def test_a_name_or_a_text_of_any_form_is_no_failure(sandbox: Sandbox) -> None:
    if "java" in sandbox.languages():
        assert LANGUAGES["java"].file(f"public class {'A' * 3000} {{ }}") == "Main.java"
    assert sandbox.run(Program("python", "print('\ud800')"), LIMITS).status in ("ok", "runtime_error")


def bubblewrap() -> Sandbox:
    try:
        return open_sandbox("bubblewrap")
    except SandboxMissing as missing:
        pytest.skip(str(missing))
