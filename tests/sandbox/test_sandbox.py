"""Programs in the sandbox: what they print comes back, and how they ended."""

import pytest

from codemmlu.sandbox import BACKENDS, Limits, Program, Sandbox, SandboxMissing, backends, open_sandbox
from codemmlu.sandbox.languages import main_class

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
