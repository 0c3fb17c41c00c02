"""Python texts in the sandbox: parsed, compiled, and searched by pyflakes for names that nothing defines."""

from collections.abc import Sequence
from functools import cache
from importlib import resources

from codemmlu.evidence.probe import Run
from codemmlu.sandbox import Limits, Sandbox

_LIMITS = Limits(seconds=5.0, memory=512, output=2_000)
# pyflakes is given as text, as the sandbox has only the interpreter's own library.
_MODULES = ("messages", "checker")
_SETUP = """
import ast, sys, types
_package = types.ModuleType("pyflakes")
_package.__version__, _package.__path__ = "", []
sys.modules["pyflakes"] = _package
for _name, _text in {texts!r}:
    _module = types.ModuleType("pyflakes." + _name)
    sys.modules["pyflakes." + _name] = _module
    setattr(_package, _name, _module)
    exec(compile(_text, _name, "exec"), _module.__dict__)
def execute(source):
    tree = compile(source, "program", "exec", ast.PyCF_ONLY_AST)
    compile(source, "program", "exec")
    found = sys.modules["pyflakes.checker"].Checker(tree, builtins={{"WindowsError"}}).messages
    names = {{m.message_args[0] for m in found if type(m).__name__ in ("UndefinedName", "UndefinedLocal")}}
    print(*sorted(names), end="")
"""


@cache
def _setup() -> str:
    folder = resources.files("pyflakes")
    texts = [(name, folder.joinpath(f"{name}.py").read_text(encoding="utf-8")) for name in _MODULES]
    return _SETUP.format(texts=texts)


def check_python(sandbox: Sandbox, sources: Sequence[str]) -> list[Run]:
    """Return for each text the status `ok` or the name of the error, and the undefined names as output.

    Names that are undefined in all of several texts are left out: these are what a question does not show.
    """
    results = sandbox.run_python(sources, _LIMITS, _setup())
    names = [set(printed.split()) for printed, error in results if error is None]
    common = set.intersection(*names) if len(names) > 1 and len(sources) > 1 else set()
    return [
        Run("ok" if error is None else error, " ".join(sorted(set(printed.split()) - common)))
        for printed, error in results
    ]
