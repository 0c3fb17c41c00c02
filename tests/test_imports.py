"""The order of the packages: each imports only from those before it, and the pure ones load nothing heavy."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# In the order of a question's path. A folder is one room.
ROOMS = (
    "errors",
    "schema",
    "run_dir",
    "sandbox",
    "recipe",
    "dataset",
    "mcq",
    "evidence",
    "engine",
    "cluster",
    "retrieval",
    "inference",
    "voting",
    "training",
    "report",
    "cli",
)

# The only modules that may name these: the engine wall, the cluster wall, and what reads a foreign format.
OWNERS = {
    "vllm": {"codemmlu.engine.vllm_engine", "codemmlu.engine.vllm_cpu_patches"},
    "ray": {
        *(
            "codemmlu.cluster.locks",
            "codemmlu.cluster.session",
            "codemmlu.cluster.tasks",
            "codemmlu.retrieval.index_builder",
            "codemmlu.retrieval.sharding",
            "codemmlu.retrieval.shared_index",
            "codemmlu.inference.pipeline",
            "codemmlu.voting.ray_partitions",
        ),
        *("codemmlu.training.ray_trainer", "codemmlu.training.train_loop", "codemmlu.engine.multi_node"),
        "codemmlu.training.callback",
    },
    "torch": {
        *("codemmlu.engine.vllm_cpu_patches", "codemmlu.engine.gguf_reader", "codemmlu.retrieval.embedder"),
        *("codemmlu.training.train_loop", "codemmlu.training.backends", "codemmlu.training.trainers"),
        "codemmlu.training.targets",
        "codemmlu.training.callback",
    },
    "transformers": {
        *(
            "codemmlu.engine.gguf_reader",
            "codemmlu.training.train_loop",
            "codemmlu.training.backends",
            "codemmlu.training.merging",
            "codemmlu.training.targets",
        ),
        "codemmlu.training.callback",
    },
    "trl": {"codemmlu.training.train_loop", "codemmlu.training.trainers"},
    "peft": {"codemmlu.training.backends", "codemmlu.training.merging"},
    "unsloth": {"codemmlu.training.backends"},
    "faiss": {"codemmlu.retrieval.faiss_index"},
    "sentence_transformers": {"codemmlu.retrieval.embedder"},
    "datasets": {"codemmlu.dataset.hub", "codemmlu.training.train_loop"},
    "huggingface_hub": {"codemmlu.dataset.hub", "codemmlu.engine.model_source"},
    "matplotlib": {"codemmlu.report.canvas", "codemmlu.report.charts"},
    "jinja2": {"codemmlu.report.page", "codemmlu.engine.template_files"},
    "statsmodels": set(),  # the tests' alone
    "rich": {"codemmlu.cli.console", "codemmlu.cli.tables", "codemmlu.cli.kinds_table"},
}
HEAVY = (
    "sentence_transformers",
    "trl",
    "peft",
    "ray",
    "torch",
    "vllm",
    "faiss",
    "transformers",
    "datasets",
    "huggingface_hub",
    "scipy",
    "pandas",
    "matplotlib",
    "jinja2",
    "statsmodels",
)
PURE: tuple[str, ...] = (
    *("schema", "recipe", "dataset", "mcq", "engine.placement", "engine.model_source"),
    *(
        "retrieval.embedder",
        "retrieval.index_store",
        "retrieval.selection",
        "retrieval.answer_transfer",
    ),
    *("inference.backlog", "voting.rules", "inference.votes", "voting.fitting"),
    *("dataset.synthetic", "training.encoding", "engine.adapter_store", "training.backends", "training.training_set"),
    *("report.summary", "report.submission", "report.page", "report.figures", "report.comparison"),
    *("retrieval.index", "cli.main", "cli.console", "cli.outcome", "cli.steps", "cli.dry_run"),
)

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in ("codemmlu", "jobs")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
PACKAGE = [name for name in MODULES if name.startswith("codemmlu")]
JOBS = [name for name in MODULES if name.startswith("jobs")]


@cache
def imported(module: str) -> tuple[tuple[str, bool], ...]:
    """What a module imports, anywhere in it, and whether it does so inside a function."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    late = {id(inner) for function in functions for inner in ast.walk(function)}
    return tuple((name, id(node) in late) for node in ast.walk(tree) for name in named(node))


def named(node: ast.AST) -> Iterator[str]:
    """The modules that an import statement names; of `from package import module`, the module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative imports hide which room is meant"
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            yield inner if inner in MODULES else str(node.module)


def room(module: str) -> str:
    return module.split(".")[1]


def test_this_test_knows_every_room() -> None:
    assert {room(name) for name in PACKAGE if "." in name} == set(ROOMS)


@pytest.mark.parametrize("module", PACKAGE)
def test_a_module_imports_only_from_rooms_above_it(module: str) -> None:
    for target, _ in imported(module):
        assert not target.startswith("jobs"), f"{module} imports a job"
        if not target.startswith("codemmlu."):
            continue
        assert ROOMS.index(room(target)) <= ROOMS.index(room(module)), f"{module} imports {target} from below"


def test_no_import_goes_in_a_circle() -> None:
    """Imports inside functions count."""
    inside = {name: {target for target, _ in imported(name) if target in MODULES} for name in PACKAGE}
    while free := {name for name, targets in inside.items() if not targets & inside.keys() - {name}}:
        inside = {name: targets for name, targets in inside.items() if name not in free}
    assert not inside, f"a circle among {sorted(inside)}"


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_known_in_one_place(library: str) -> None:
    users = {m for m in MODULES for target, _ in imported(m) if target.split(".")[0] == library}
    assert users <= OWNERS[library]


@pytest.mark.parametrize("module", JOBS)
def test_a_job_imports_only_the_command_line_and_the_steps(module: str) -> None:
    ours = {target for target, _ in imported(module) if target.split(".")[0] in ("codemmlu", "jobs", "tests")}
    assert ours <= {"codemmlu.cli.main", "codemmlu.cli.steps", "codemmlu.cli.check"}


def test_the_pure_rooms_load_nothing_heavy() -> None:
    """In one fresh process, room after room, so that the first that does is named."""
    code = """
import importlib, json, sys
rooms, heavy = json.loads(sys.argv[1])
for room in rooms:
    importlib.import_module(f"codemmlu.{room}")
    if loaded := [name for name in heavy if name in sys.modules]:
        sys.exit(f"codemmlu.{room} loads {', '.join(loaded)}")
"""
    argument = json.dumps([PURE, HEAVY])
    done = subprocess.run([sys.executable, "-c", code, argument], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", MODULES)
def test_every_module_opens_with_what_it_is(module: str) -> None:
    assert (ast.get_docstring(ast.parse(MODULES[module].read_text(encoding="utf-8"))) or "").strip()
