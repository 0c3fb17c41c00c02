"""The plan of a run (`--dry-run`): prompts, engines, memory and about the time of each model.

A dry run starts nothing. This project knows the models of its recipes; for other models the plan asks the Hub, and
names as unknown, instead of guessing, whatever the Hub does not say.
"""

import os
from collections import Counter
from dataclasses import asdict, dataclass

from codemmlu.cli.adapters import check_adapters
from codemmlu.cli.check import findings, first_prompt
from codemmlu.cli.estimates import ModelPlan, examples_of, model_of, placed, training_of
from codemmlu.cli.inputs import foreign_code, refuse_overwritten
from codemmlu.cli.job import JobContext, Outcome
from codemmlu.cli.steps import describe, finetune_settings, refuse_without_examples
from codemmlu.dataset import InMemory, QuestionSet, read_submission
from codemmlu.dataset.label_position import SWAPPED, with_answer_at
from codemmlu.engine.adapter_store import read_manifest as read_adapter
from codemmlu.engine.placement.allocation import allocate
from codemmlu.engine.placement.gpus import Node, Resources, grown, kinds_here
from codemmlu.engine.placement.placement import built_for_cpu, place_without_engine
from codemmlu.engine.scripted import is_scripted
from codemmlu.inference.tools import describe_tools
from codemmlu.recipe import (
    EvidenceVoter,
    FinetuneSettings,
    ModelVoter,
    ProbeVoter,
    Recipe,
    RetrieveVoter,
    SubmissionVoter,
    VerifyVoter,
    exits_early,
    when_of,
)
from codemmlu.run_dir import RunDir, check_persistent_path
from codemmlu.run_dir.ownership import check_ours
from codemmlu.schema import Question


@dataclass(frozen=True)
class _PlannedModel:
    """The plan of one model, as `--json` prints it; see `ModelPlan` and `Placement`."""

    source: str
    asks: int
    kept: int | None
    prompt_tokens: int
    replicas: int
    most: int
    gpus_each: float
    tensor_parallel: int
    pipeline_parallel: int
    memory: dict[str, float] | None
    weights_gib: float | None
    kv_gib: float | None
    seconds: float | None


@dataclass(frozen=True)
class _Plan:
    """The plan, as `--json` prints it: counts of rows, the hardware, the examples of the index, and the models."""

    questions: int
    labelled: int
    rejected: int
    hardware: str
    examples: int | None
    models: dict[str, _PlannedModel]


def plan(job: JobContext) -> Outcome:
    """Print the plan; every mistake that would stop the run before its first question is a UserError."""
    recipe, say = job.recipe, job.terminal.say
    if job.name == "finetune":
        finetune_settings(recipe)
    if job.name == "index":
        refuse_without_examples(recipe)
    if job.name == "vote":
        say("vote needs no inference and no engine: it reads what the run directory holds")
    check_persistent_path(recipe.out)
    check_ours(RunDir(recipe.out))
    refuse_overwritten(recipe, RunDir(recipe.out))
    questions = QuestionSet(recipe, rows := InMemory())
    stream = questions.stream
    hardware = job.hardware or (grown(recipe.gpus, here().cpus) if recipe.gpus else here())
    for line in (*describe(recipe, questions), *foreign_code(recipe)):
        say(line)
    for line in findings(stream, rows):
        say(line)
    templates = [voter.template for voter in recipe.asked.values() if isinstance(voter, ModelVoter)]
    for line in first_prompt(rows[0], templates[0]) if templates else []:
        say(line)
    examples = examples_of(recipe, questions)
    trained = recipe.finetune.name if recipe.finetune else None
    check_adapters(recipe, trained)
    plans = [
        model_of(recipe, name, rows, hardware, examples)
        for name in recipe.models
        if any(voter.pool == name for voter in recipe.asked.values())
    ]
    shares = (
        allocate({model.name: model.placement for model in plans if not _waits(recipe, model.name)}, hardware) or {}
    )
    plans = [placed(model, shares.get(model.name, model.placement), hardware) for model in plans]
    say(f"Hardware: {hardware}{' (simulated)' if job.hardware else ''}. Run directory: {RunDir(recipe.out).shown}")
    if examples:
        say(examples.line)
    if recipe.finetune:
        say(_finetune_line(recipe, recipe.finetune, questions, hardware))
    for model in plans:
        say(_line(model))
    if len(plans) > 1:
        say(f"{', '.join(shares)}: side by side" if shares else "The models are asked one after another")
    for name, any_voter in recipe.voters.items():
        if isinstance(any_voter, SubmissionVoter):
            answers = read_submission(any_voter.source, f"voters.{name}.source")
            say(f"{name}: {len(answers.letters):,} answers of {any_voter.source}; no inference needed")
    for line in _besides(recipe, rows, questions.fit_examples):
        say(line)
    if without_engine := sum(isinstance(voter, RetrieveVoter) for voter in recipe.voters.values()):
        workers = place_without_engine(hardware, recipe.examples.embedder.device)
        say(f"retrieve: {without_engine * len(rows):,} asks of the index; {workers}")
    for voter in recipe.asked.values():
        if isinstance(voter, EvidenceVoter):
            say(describe_tools(voter))
        if isinstance(voter, ProbeVoter):
            learnt = min(len(questions.examples), voter.learn_from)
            say(f"{voter.pool}: {len(rows):,} questions and {learnt:,} examples pass the lower layers, on the CPU")
    say(f"Vote: {recipe.vote.rule} over {', '.join(recipe.voters)}. Nothing was started; to run it: {job.command()}")
    report = _Plan(
        questions=stream.questions,
        labelled=stream.labelled,
        rejected=stream.rejected,
        hardware=str(hardware),
        examples=examples.count if examples else None,
        models={model.name: _planned(model) for model in plans},
    )
    return Outcome(asdict(report), 0)


def _waits(recipe: Recipe, model: str) -> bool:
    """Return whether a model waits for another model, whose uncertain questions it is asked."""
    conditions = [when for voter in recipe.asked.values() if voter.pool == model and (when := when_of(voter))]
    return any(recipe.asked[name].pool != model for when in conditions for name in when.names)


def _besides(recipe: Recipe, rows: list[Question], fit: tuple[Question, ...]) -> list[str]:
    """Return lines on examples and swaps that are asked too, and on questions that may not be asked."""
    lines = []
    voters = recipe.asked.items()
    if fit and len(recipe.voters) > 1:
        lines.append(f"{', '.join(recipe.asked)}: besides, {len(fit):,} examples are asked to weigh them by")
    if waiting := [name for name, v in voters if isinstance(v, VerifyVoter) and v.threshold == "fit"]:
        lines.append(f"{', '.join(waiting)}: besides, {len(fit):,} examples are asked to fit the threshold on")
    if measured := recipe.report.order_sensitivity:
        movable = sum(with_answer_at(row, to) not in (None, row) for row in rows for to in SWAPPED)
        lines.append(f"{', '.join(measured)}: besides, {movable:,} questions with the right choice at another letter")
    if fewer := [name for name, v in voters if when_of(v) or exits_early(v)]:
        lines.append(f"{', '.join(fewer)}: at most; what is clear before is not asked, or not read again")
    return lines


def here() -> Resources:
    """Return the resources of this machine: NVIDIA GPUs as their driver reports them; nothing is started."""
    kinds = Counter([] if built_for_cpu() else kinds_here())
    return Resources(tuple(Node(gpus, kind) for kind, gpus in kinds.items()), len(os.sched_getaffinity(0)))


def _finetune_line(recipe: Recipe, settings: FinetuneSettings, questions: QuestionSet, hardware: Resources) -> str:
    training = training_of(recipe, settings, questions, hardware)
    manifest = read_adapter(RunDir(recipe.out), settings.name)
    state = "; one stands there, and is checked when the run starts" if manifest else ""
    time = "" if training.seconds is None else f"; about {max(1, round(training.seconds / 60)):,} min"
    workers = f"{settings.workers} {'GPU' if hardware.gpus else 'CPU'} worker{'s' * (settings.workers > 1)}"
    return (
        f"finetune {settings.name}: {training.sequences:,} sequences of {training.examples:,} examples, "
        f"about {training.tokens:,} tokens in {training.steps:,} steps; {workers}{time}{state}"
    )


def _line(plan: ModelPlan) -> str:
    kept = f", {plan.kept:,} of them answered already" if plan.kept else ""
    if plan.placement.memory:
        memory = f"memory: {plan.placement.memory}"
    elif is_scripted(plan.source):
        memory = "no model is loaded"
    elif plan.weights_gib is None:
        memory = "memory: not known: neither is the model here, nor does the Hub say its size"
    elif plan.kv_gib is None:
        memory = (
            f"memory: weights {plan.weights_gib:.2f} GiB; the kind of GPU is not known, so not what fits beside them"
        )
    else:
        total = plan.weights_gib + plan.kv_gib
        memory = f"memory: weights {plan.weights_gib:.2f} + KV cache {plan.kv_gib:.2f} = {total:.2f} GiB an engine"
    written = ", for the prompts alone: it writes besides" if plan.writes else ""
    time = "" if plan.seconds is None else f"; about {max(1, round(plan.seconds)):,} s after start-up{written}"
    asks = f"{plan.name} ({plan.source}): {plan.asks:,} asks{kept}, about {plan.tokens:,} prompt tokens"
    return f"{asks}; {plan.placement}; {memory}{time}"


def _planned(plan: ModelPlan) -> _PlannedModel:
    placement, memory = plan.placement, plan.placement.memory
    return _PlannedModel(
        source=plan.source,
        asks=plan.asks,
        kept=plan.kept,
        prompt_tokens=plan.tokens,
        replicas=placement.replicas,
        most=placement.at_most,
        gpus_each=placement.gpus_each,
        tensor_parallel=placement.arguments.get("tensor_parallel_size", 1),
        pipeline_parallel=placement.arguments.get("pipeline_parallel_size", 1),
        memory=asdict(memory) | {"sum": memory.sum} if memory else None,
        weights_gib=plan.weights_gib,
        kv_gib=plan.kv_gib,
        seconds=plan.seconds,
    )
