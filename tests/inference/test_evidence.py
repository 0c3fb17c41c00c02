"""Voters that look at tools: what is stored is the observation, and what it is worth is learnt on examples."""

import asyncio
from dataclasses import replace

import pytest

from codemmlu.engine.placement.gpus import Resources
from codemmlu.engine.placement.placement import place_tools
from codemmlu.evidence import Observation
from codemmlu.inference import tools
from codemmlu.inference.learnt_evidence import learn_evidence
from codemmlu.inference.methods import METHODS, MethodInput
from codemmlu.inference.spec import InferenceSpec
from codemmlu.inference.voters import ResolvedVoter
from codemmlu.inference.votes import votes_from_answers
from codemmlu.recipe import ExecuteVoter, StaticVoter, VerbatimVoter
from codemmlu.sandbox import SandboxMissing
from codemmlu.schema import Answer, Question
from tests.support.rows import question

GAPPED = """It is missing a part.

Incomplete Solution:
def f(x):
    y = x
    ______________
    y += 1
    return y
"""
VOTER = VerbatimVoter(method="verbatim")
SPEC = tools.evidence_spec(VOTER)


def asked(task_id: str, answer: str | None = "B") -> Question:
    return question(task_id, question=GAPPED + f"# {task_id}", choices=("    y = 2", "    y += 1"), answer=answer)


def answered(spec: InferenceSpec, about: Question) -> Answer:
    """What the method stores of a question."""
    result = asyncio.run(METHODS[spec.method].run(None, spec, MethodInput(replace(about, answer=None))))
    return Answer(
        key=spec.key(about),
        task_id=about.task_id,
        split="test",
        ask=spec.name,
        nearest=None,
        verbatim=None,
        started=0.0,
        seconds=0.0,
        error=None,
        **vars(result),
    )


def test_examples_teach_what_an_observation_is_worth() -> None:
    examples = [asked(f"e{number}") for number in range(12)]
    stored = {spec_answer.key: spec_answer for spec_answer in (answered(SPEC, example) for example in examples)}
    learnt = learn_evidence(SPEC, examples, stored)
    about = asked("q", None)
    own = answered(SPEC, about)
    assert own.status == "answered"
    assert Observation.parse(own.turns[0].text) == Observation("", ())
    voter = ResolvedVoter("v", VOTER, "verbatim", SPEC)
    (vote,) = votes_from_answers(voter, [about], {own.key: own}, learnt)
    assert vote.letter == "B"
    assert vote.probabilities[1] > 0.9
    # What nothing was learnt about is worth a guess.
    (vote,) = votes_from_answers(voter, [about], {own.key: own}, learn_evidence(SPEC, [], {}))
    assert vote.probabilities == pytest.approx((0.5, 0.5))


def test_an_example_does_not_teach_about_itself() -> None:
    examples = [asked("e0"), asked("e1", "A")]
    stored = {spec_answer.key: spec_answer for spec_answer in (answered(SPEC, example) for example in examples)}
    learnt = learn_evidence(SPEC, examples, stored)
    alone = learn_evidence(SPEC, examples[1:], stored)
    own = stored[SPEC.key(examples[0])]
    assert learnt.probabilities(examples[0], own) == pytest.approx(alone.probabilities(examples[0], own))


def test_a_question_with_nothing_to_observe_is_an_abstention() -> None:
    about = question("q", question="Which planet is red?", choices=("Mars", "Venus"), answer="A")
    assert answered(SPEC, about).status == "abstained"


def test_a_tool_is_part_of_the_key_of_its_language_alone() -> None:
    spec = InferenceSpec("static", "", "static", settings=(("backend", "bubblewrap"),), tools=(("python", "3"),))
    judged = ("Compile Error", "Runtime Error", "No abnormally found", "Internal error")
    python = question("p", question="What happens?\nimport os\nprint(os)\n", choices=judged, answer="A")
    java = question("j", question="What happens?\npublic class Main { }\n", choices=judged, answer="A")
    more = replace(spec, tools=(("java", "17"), ("python", "3")))
    assert spec.name == more.name
    assert spec.key(python) == more.key(python)
    assert spec.key(java) != more.key(java)


def test_without_a_sandbox_a_voter_abstains_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise SandboxMissing("install bubblewrap")

    monkeypatch.setattr(tools, "open_sandbox", missing)
    monkeypatch.setattr("codemmlu.inference.methods.evidence.open_sandbox", missing)
    voter = ExecuteVoter(method="execute")
    spec = tools.evidence_spec(voter)
    assert spec.option("backend") == tools.NONE
    program = question(
        "q", question="What is the output of this Python code?\nprint(1)", choices=("1", "2"), answer="A"
    )
    assert answered(spec, program).status == "abstained"
    assert tools.describe_tools(voter).endswith("as no program runs without a sandbox: install bubblewrap")
    assert tools.describe_tools(StaticVoter(method="static")).startswith("static: abstains everywhere")


def test_workers_that_run_programs_have_no_engine() -> None:
    assert str(place_tools(Resources((), 3))) == "3 workers without an engine"
