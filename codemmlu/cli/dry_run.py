"""The plan of a run (`--dry-run`): what would be asked, by which engines, in how much memory and about how long.

Starts nothing. The models of the recipes are known here; of others the Hub is asked, and what it does not say is named
as unknown instead of guessed.
"""

import os
from collections import Counter
from dataclasses import asdict
from typing import Any

from codemmlu import dataset
from codemmlu.cli.estimates import ModelPlan, examples_of, model_of, placed, training_of
from codemmlu.cli.job import JobContext, Outcome
from codemmlu.cli.steps import NO_HOLDOUT, describe, finetune_settings, foreign_code, refuse_without_examples
from codemmlu.dataset.examples import holdout_ids
from codemmlu.dataset.label_position import SWAPPED, with_answer_at
from codemmlu.engine.adapter_store import read_manifest as read_adapter
from codemmlu.engine.placement.allocation import allocate
from codemmlu.engine.placement.gpus import Node, Resources, grown, kinds_here
from codemmlu.engine.placement.placement import built_for_cpu, place_without_engine
from codemmlu.engine.scripted import is_scripted
from codemmlu.inference.voters import adapter_of
from codemmlu.recipe import (
    DirectVoter,
    FinetuneSettings,
    Recipe,
    RetrieveVoter,
    SubmissionVoter,
    VerifyVoter,
    adapter_name,
    when_of,
)
from codemmlu.run_dir import RunDir, check_persistent_path
from codemmlu.schema import Question


def plan(job: JobContext) -> Outcome:
    """Prints the plan. Raises UserError for everything that would stop the run before its first question."""
    recipe, say = job.recipe, job.terminal.say
    if job.name == "finetune":
        finetune_settings(recipe)
    if job.name == "index":
        refuse_without_examples(recipe)
    if job.name == "vote":
        say("vote needs no inference and no engine: it reads what the run directory holds")
    check_persistent_path(recipe.out)
    held = holdout_ids(recipe)
    if recipe.questions.holdout and held is None:
        say(NO_HOLDOUT)
    loaded = dataset.load(recipe.questions, held)
    rows = [row for row in loaded.rows() if isinstance(row, Question)]
    hardware = job.hardware or (grown(recipe.gpus, here().cpus) if recipe.gpus else here())
    for line in (*describe(loaded), *foreign_code(recipe)):
        say(line)
    examples = examples_of(recipe, held or frozenset())
    trained = recipe.finetune.name if recipe.finetune else None
    for name, voter in recipe.asked.items():
        if adapter_name(voter) != trained:
            adapter_of(recipe, name, voter, {})
    plans = [
        model_of(recipe, name, rows, hardware, examples)
        for name in recipe.models
        if any(voter.pool == name for voter in recipe.asked.values())
    ]
    shares = allocate({one.name: one.placement for one in plans if not _waits(recipe, one.name)}, hardware) or {}
    plans = [placed(one, shares.get(one.name, one.placement), hardware) for one in plans]
    say(f"Hardware: {hardware}{' (simulated)' if job.hardware else ''}. Run directory: {RunDir(recipe.out).shown}")
    if examples:
        say(examples.line)
    if recipe.finetune:
        say(_finetune_line(recipe, recipe.finetune, hardware))
    for one in plans:
        say(_line(one))
    if len(plans) > 1:
        say(f"{', '.join(shares)}: side by side" if shares else "The models are asked one after another")
    for name, one_voter in recipe.voters.items():
        if isinstance(one_voter, SubmissionVoter):
            answers = dataset.read_submission(one_voter.source, f"voters.{name}.source")
            say(f"{name}: {len(answers.letters):,} answers of {one_voter.source}; nobody is asked")
    for line in _besides(recipe, rows, dataset.fit_examples(recipe, held or frozenset())):
        say(line)
    if alone := sum(isinstance(voter, RetrieveVoter) for voter in recipe.voters.values()):
        workers = place_without_engine(hardware, recipe.examples.embedder.device)
        say(f"retrieve: {alone * len(rows):,} asks of the index; {workers}")
    say(f"Vote: {recipe.vote.rule} over {', '.join(recipe.voters)}. Nothing was started; to run it: {job.command()}")
    report: dict[str, Any] = {
        "questions": loaded.questions,
        "labelled": loaded.labelled,
        "rejected": loaded.rejected,
        "hardware": str(hardware),
        "examples": examples.count if examples else None,
        "models": {one.name: _as_json(one) for one in plans},
    }
    return Outcome(report, 0)


def _waits(recipe: Recipe, model: str) -> bool:
    """Whether a model is asked after another one, whose doubt it answers."""
    its = [when for voter in recipe.asked.values() if voter.pool == model and (when := when_of(voter))]
    return any(recipe.asked[name].pool != model for when in its for name in when.of)


def _besides(recipe: Recipe, rows: list[Question], fit: tuple[Question, ...]) -> list[str]:
    """What is asked besides the questions, and what may not be asked, in lines."""
    lines = []
    voters = recipe.asked.items()
    if fit and len(recipe.voters) > 1:
        lines.append(f"{', '.join(recipe.asked)}: besides, {len(fit):,} examples are asked to weigh them by")
    if waiting := [name for name, v in voters if isinstance(v, VerifyVoter) and v.threshold == "fit"]:
        lines.append(f"{', '.join(waiting)}: besides, {len(fit):,} examples are asked to fit the threshold on")
    if measured := recipe.report.order_sensitivity:
        movable = sum(with_answer_at(row, to) not in (None, row) for row in rows for to in SWAPPED)
        lines.append(f"{', '.join(measured)}: besides, {movable:,} questions with the right choice at another letter")
    if fewer := [name for name, v in voters if when_of(v) or (isinstance(v, DirectVoter) and v.early_exit == "margin")]:
        lines.append(f"{', '.join(fewer)}: at most; what is clear before is not asked, or not read again")
    return lines


def here() -> Resources:
    """This machine, without starting anything on it; NVIDIA GPUs by what their driver says of them."""
    kinds = Counter([] if built_for_cpu() else kinds_here())
    return Resources(tuple(Node(gpus, kind) for kind, gpus in kinds.items()), len(os.sched_getaffinity(0)))


def _finetune_line(recipe: Recipe, settings: FinetuneSettings, hardware: Resources) -> str:
    one = training_of(recipe, settings, hardware)
    manifest = read_adapter(RunDir(recipe.out), settings.name)
    state = "; one stands there, and is checked when the run starts" if manifest else ""
    time = "" if one.seconds is None else f"; about {max(1, round(one.seconds / 60)):,} min"
    on = f"{settings.workers} {'GPU' if hardware.gpus else 'CPU'} worker{'s' * (settings.workers > 1)}"
    return (
        f"finetune {settings.name}: {one.sequences:,} sequences of {one.examples:,} examples, about {one.tokens:,} "
        f"tokens in {one.steps:,} steps; {on}{time}{state}"
    )


def _line(one: ModelPlan) -> str:
    kept = f", {one.kept:,} of them answered already" if one.kept else ""
    if one.placement.memory:
        memory = f"memory: {one.placement.memory}"
    elif is_scripted(one.source):
        memory = "no model is loaded"
    elif one.weights_gib is None:
        memory = "memory: not known: neither is the model here, nor does the Hub say its size"
    elif one.kv_gib is None:
        memory = (
            f"memory: weights {one.weights_gib:.2f} GiB; the kind of GPU is not known, so not what fits beside them"
        )
    else:
        total = one.weights_gib + one.kv_gib
        memory = f"memory: weights {one.weights_gib:.2f} + KV cache {one.kv_gib:.2f} = {total:.2f} GiB an engine"
    written = ", for the prompts alone: it writes besides" if one.writes else ""
    time = "" if one.seconds is None else f"; about {max(1, round(one.seconds)):,} s after start-up{written}"
    asks = f"{one.name} ({one.source}): {one.asks:,} asks{kept}, about {one.tokens:,} prompt tokens"
    return f"{asks}; {one.placement}; {memory}{time}"


def _as_json(one: ModelPlan) -> dict[str, Any]:
    return {
        "source": one.source,
        "asks": one.asks,
        "kept": one.kept,
        "prompt_tokens": one.tokens,
        "replicas": one.placement.replicas,
        "most": one.placement.at_most,
        "gpus_each": one.placement.gpus_each,
        "tensor_parallel": one.placement.arguments.get("tensor_parallel_size", 1),
        "pipeline_parallel": one.placement.arguments.get("pipeline_parallel_size", 1),
        "memory": asdict(one.placement.memory) | {"sum": one.placement.memory.sum} if one.placement.memory else None,
        "weights_gib": one.weights_gib,
        "kv_gib": one.kv_gib,
        "seconds": one.seconds,
    }
