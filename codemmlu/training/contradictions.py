"""Examples whose key a tool contradicts: about one in eleven keys of the questions whose programs can be run is wrong.

A key is contradicted where the program prints exactly what another choice says, where another choice alone passes the
examples of a docstring, or where a program that is said to end normally does not compile.
"""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial

from codemmlu.dataset.kind import kind_of, outcome_of
from codemmlu.errors import Progress, UserError
from codemmlu.evidence import PROBES, Observation
from codemmlu.evidence.frequencies import Feature
from codemmlu.recipe import digest
from codemmlu.run_dir import RunDir
from codemmlu.sandbox import Sandbox, SandboxMissing, open_sandbox
from codemmlu.schema import Question, letters

_VERSION = 1
_PRINTED = ("matches: same", "matches: same words")
# What the compilers of these languages refuse, a judge refuses too; C and C++ differ from compiler to compiler.
_SAME_EVERYWHERE = ("java", "python")


@dataclass(frozen=True)
class Contradiction:
    """An example that is left out.

    Attributes:
        task_id: The example.
        key: Its answer.
        tool: The tool's letter; None where the tool only says that it is not the key.
        method: The probe that looked.
        file: The file of the example.
        line: Its line there.
    """

    task_id: str
    key: str
    tool: str | None
    method: str
    file: str
    line: int


def find_contradictions(run: RunDir, progress: Progress, examples: Sequence[Question]) -> list[Contradiction]:
    """Look at the programs of labelled examples; what was found is kept in the run directory.

    Args:
        run: The run directory.
        progress: Where to report.
        examples: The examples.

    Returns:
        The examples whose key a tool contradicts, in their order.

    Raises:
        UserError: No sandbox works here.
    """
    try:
        sandbox = open_sandbox()
    except SandboxMissing as missing:
        raise UserError(f"leave_out runs programs in a sandbox, and none works here: {missing}; set it to keep",
                        key="finetune.contradicted") from None  # fmt: skip
    content = [(q.task_id, q.question, q.choices, q.answer, q.file, q.line) for q in examples]
    name = f"observations/{digest('contradictions', _VERSION, sandbox.name, sandbox.languages(), content)}.json"
    if run.exists(name):
        return [Contradiction(**fields) for fields in json.loads(run.read(name))]
    progress.say(f"finetune: tools look at the programs of {len(examples):,} examples")
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = [one for one in pool.map(partial(contradiction_of, sandbox=sandbox), examples) if one]
    run.write(name, json.dumps([asdict(one) for one in found]).encode())
    return found


def contradiction_of(example: Question, sandbox: Sandbox) -> Contradiction | None:
    """Return what a tool says against the key of an example; None where it says nothing against it."""
    for method in ("execute", "static"):
        probe = PROBES[method]
        language = probe.language(example)
        if not language or language not in sandbox.languages():
            continue
        observation = probe.observe(example, sandbox)
        features = probe.features(example, observation) if observation else None
        if observation is None or features is None:
            continue
        tool = contradicting(example, method, observation, features)
        if tool is not None:
            return Contradiction(
                example.task_id, example.answer or "", tool or None, method, example.file, example.line
            )
    return None


def contradicting(example: Question, method: str, observation: Observation, features: Sequence[Feature]) -> str | None:
    """Return the letters that a tool says instead of the key, empty for any other; None: it does not contradict.

    Args:
        example: A labelled example.
        method: The probe, `execute` or `static`.
        observation: What the probe observed.
        features: The feature of each choice that follows from it.
    """
    key, kind = letters(26).index(example.answer or ""), kind_of(example)
    if method == "execute":
        sure = _PRINTED if kind == "output" else ("all",)
        others = [letters(26)[choice] for choice, feature in enumerate(features) if feature[0] in sure]
        return "".join(others) if others and features[key][0] not in sure else None
    if kind != "defect" or observation.language not in _SAME_EVERYWHERE:
        return None
    refused = observation.runs[0].status not in ("ok", "timeout", "memory", "unsupported")
    ends_normally = outcome_of(example.choices[key]) == "normal"
    return "" if refused and ends_normally else None
