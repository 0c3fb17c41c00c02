"""The plan of a run (`--dry-run`): what would be asked, by which engines, in how much memory and about how long.

Starts nothing. The models of the recipes are known here; of others the Hub is asked, and what it does not say is named
as unknown instead of guessed.
"""

import math
import os
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any

from codemmlu import questions as question_room
from codemmlu.answering.asks import ask_of
from codemmlu.answering.keys import known_keys
from codemmlu.command import Job, Outcome
from codemmlu.curriculum import find_curriculum
from codemmlu.engine import sources
from codemmlu.engine.hardware import GPUS, Node, Resources, grown, kinds_here
from codemmlu.engine.memory import GIB, Known, active_parameters
from codemmlu.engine.placement import Placement, built_for_cpu, place, place_without_engine, refuse_idle_gpus
from codemmlu.engine.sharing import side_by_side
from codemmlu.engine.sources import cache_folder
from codemmlu.errors import UserError
from codemmlu.prompts import render
from codemmlu.questions.swaps import SWAPPED, swapped
from codemmlu.recipe import (
    DirectVoter,
    FinetuneSettings,
    ModelSettings,
    ReasonVoter,
    Recipe,
    RetrieveVoter,
    SampleVoter,
    SubmissionVoter,
    VerifyVoter,
    adapter_name,
    method_settings,
    uses_examples,
    when_of,
)
from codemmlu.retrieval.encoder import find as find_embedder
from codemmlu.retrieval.store import check_embedder, kind_for, read_manifest
from codemmlu.rows import Question
from codemmlu.run_dir import RunDir, refuse_deletable
from codemmlu.seats import adapter_of, weights_digest
from codemmlu.shelf import held_out_of, place_of
from codemmlu.steps import NO_HOLDOUT, describe, foreign_code
from codemmlu.training.published import read_manifest as read_adapter

# Characters per token of code and English in today's tokenizers, and the share of a chip's peak that a batched prefill
# reaches: rough on purpose, the plan says "about".
_CHARACTERS_PER_TOKEN = 3.2
_EFFICIENCY = 0.4
_CPU_CORE_FLOPS = 0.85e12


@dataclass(frozen=True)
class ModelPlan:
    """What one model would do. None: not known without asking the Hub."""

    name: str
    source: str
    asks: int
    kept: int | None
    tokens: int
    placement: Placement
    weights_gib: float | None  # of the files
    kv_gib: float | None
    seconds: float | None
    writes: bool
    known: Known | None


def plan(job: Job) -> Outcome:
    """Prints the plan. Raises UserError for everything that would stop the run before its first question."""
    recipe, say = job.recipe, job.terminal.say
    refuse_deletable(recipe.out)
    held = held_out_of(recipe)
    if recipe.questions.holdout and held is None:
        say(NO_HOLDOUT)
    loaded = question_room.load(recipe.questions, held)
    rows = [row for row in loaded.rows() if isinstance(row, Question)]
    hardware = job.hardware or (grown(recipe.gpus, here().cpus) if recipe.gpus else here())
    for line in (*describe(loaded), *foreign_code(recipe)):
        say(line)
    examples = _examples(job, held or frozenset())
    trained = recipe.finetune.name if recipe.finetune else None
    for name, voter in recipe.asked.items():
        if adapter_name(voter) != trained:
            adapter_of(recipe, name, voter, {})
    plans = [
        _model(job, name, settings, rows, hardware, examples)
        for name, settings in recipe.models.items()
        if any(voter.pool == name for voter in recipe.asked.values())
    ]
    shares = side_by_side({one.name: one.placement for one in plans if not _waits(recipe, one.name)}, hardware) or {}
    plans = [_placed(one, shares.get(one.name, one.placement), hardware) for one in plans]
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
            answers = question_room.read_submission(one_voter.source, f"voters.{name}.source")
            say(f"{name}: {len(answers.letters):,} answers of {one_voter.source}; nobody is asked")
    for line in _besides(recipe, rows, question_room.fit_examples(recipe, held or frozenset())):
        say(line)
    if alone := sum(isinstance(voter, RetrieveVoter) for voter in recipe.voters.values()):
        workers = place_without_engine(hardware, recipe.examples.embedder.device)
        say(f"retrieve: {alone * len(rows):,} asks of the index; {workers}")
    say(f"Vote: {recipe.vote.rule} over {', '.join(recipe.voters)}. Nothing was started; to run it: {job.again}")
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


def _placed(one: "ModelPlan", placement: Placement, hardware: Resources) -> "ModelPlan":
    """The same with the engines that it shares the hardware with."""
    seconds = _seconds(one.tokens, one.known, placement, hardware)
    return replace(one, placement=placement, seconds=seconds)


def _besides(recipe: Recipe, rows: list[Question], fit: tuple[Question, ...]) -> list[str]:
    """What is asked besides the questions, and what may not be asked, in lines."""
    lines = []
    voters = recipe.asked.items()
    if fit and len(recipe.voters) > 1:
        lines.append(f"{', '.join(recipe.asked)}: besides, {len(fit):,} examples are asked to weigh them by")
    if waiting := [name for name, v in voters if isinstance(v, VerifyVoter) and v.threshold == "fit"]:
        lines.append(f"{', '.join(waiting)}: besides, {len(fit):,} examples are asked to fit the threshold on")
    if measured := recipe.report.order_sensitivity:
        movable = sum(swapped(row, to) not in (None, row) for row in rows for to in SWAPPED)
        lines.append(f"{', '.join(measured)}: besides, {movable:,} questions with the right choice at another letter")
    if fewer := [name for name, v in voters if when_of(v) or (isinstance(v, DirectVoter) and v.early_exit == "margin")]:
        lines.append(f"{', '.join(fewer)}: at most; what is clear before is not asked, or not read again")
    return lines


def here() -> Resources:
    """This machine, without starting anything on it; NVIDIA GPUs by what their driver says of them."""
    kinds = Counter([] if built_for_cpu() else kinds_here())
    return Resources(tuple(Node(gpus, kind) for kind, gpus in kinds.items()), len(os.sched_getaffinity(0)))


@dataclass(frozen=True)
class ExamplesPlan:
    """The index a run would use."""

    count: int
    characters: float  # of one example, on average
    line: str


def _examples(job: Job, held: frozenset[str]) -> ExamplesPlan | None:
    """None where nothing looks at examples."""
    recipe, settings = job.recipe, job.recipe.examples
    if not any(uses_examples(voter) for voter in recipe.voters.values()):
        return None
    where = place_of(recipe)
    manifest = read_manifest(where)
    embedder = find_embedder(settings.embedder, cache_folder())
    if settings.source is None:
        if manifest:
            check_embedder(manifest, settings, embedder, where)
        if manifest is None:
            raise UserError(f"examples.index: there is none at {where.shown}; give examples.source to make it of")
        return ExamplesPlan(manifest.count, 0, f"examples: {manifest.count:,} in the index at {where.shown}")
    rows, _ = question_room.read_examples(settings, held)
    characters = sum(len(row.question) + sum(map(len, row.choices)) for row in rows) / len(rows)
    kind = kind_for(settings.kind, len(rows))
    state = "stands there, and is checked when the run starts" if manifest else "is made"
    line = (
        f"examples: {len(rows):,} with an answer from {settings.source}; an index ({kind}, {settings.embedder.source}) "
        f"{state} at {where.shown}"
    )
    return ExamplesPlan(len(rows), characters, line)


def _finetune_line(recipe: Recipe, settings: FinetuneSettings, hardware: Resources) -> str:
    """What would be trained, and about how long."""
    manifest = read_adapter(RunDir(recipe.out), settings.name)
    state = "; one stands there, and is checked when the run starts" if manifest else ""
    # Examples in the prompt and pairs are found when the run starts; here they only count.
    plain = settings.model_copy(update={"pairs_from": None, "synthesise": 0})
    rows = [row for row in find_curriculum(recipe, plain, None).table.to_pylist() if row["part"] == "train"]
    characters = sum(len(row["question"]) + sum(map(len, row["choices"])) for row in rows)
    sequences = (len(rows) + settings.synthesise) * settings.epochs
    shown = 1 + settings.examples * (1 - settings.withhold)
    tokens = round(characters * shown / _CHARACTERS_PER_TOKEN * sequences / len(rows))
    steps = math.ceil(sequences / (settings.batch_size * settings.accumulation * settings.workers))
    model = recipe.models[settings.model]
    known = sources.known(model.source, model.revision, cache_folder())
    # Forwards and backwards through frozen weights cost the same, and so does computing forwards once more.
    passes = 3 if settings.gradient_checkpointing else 2
    workers = Placement(settings.workers, 1 if hardware.gpus else 0, 0, {"tensor_parallel_size": 1})
    seconds = _seconds(tokens, known, workers, hardware)
    time = "" if seconds is None else f"; about {max(1, round(seconds * passes / 60)):,} min"
    on = f"{settings.workers} {'GPU' if hardware.gpus else 'CPU'} worker{'s' * (settings.workers > 1)}"
    return (
        f"finetune {settings.name}: {sequences:,} sequences of {len(rows):,} examples, about {tokens:,} tokens in "
        f"{steps:,} steps; {on}{time}{state}"
    )


def _model(
    job: Job,
    name: str,
    settings: ModelSettings,
    rows: list[Question],
    hardware: Resources,
    examples: ExamplesPlan | None,
) -> ModelPlan:
    refuse_idle_gpus(hardware)
    known = sources.known(settings.source, settings.revision, cache_folder())
    placement = place(name, settings, hardware, known)
    voters = [v for v in job.recipe.asked.values() if not isinstance(v, RetrieveVoter) and v.model == name]
    prompts = sorted({(v.template, v.examples, v.adapter or "", v.method, str(method_settings(v))) for v in voters})
    # Further readings share the question's tokens in the prefix cache; what they add is the choices' part.
    characters = sum(len(render(row, template).messages[0].content) for row in rows for template, *_ in prompts)
    shown = sum(count for _, count, *_ in prompts) * len(rows)
    tokens = round((characters + shown * (examples.characters if examples else 0)) / _CHARACTERS_PER_TOKEN)
    kept = None
    if not sources.is_on_hub(settings.source):
        model = sources.inspect(settings.source, settings.revision, cache_folder())
        # What an ask with examples has answered is known once their index is checked.
        plain = [voter for voter in voters if not voter.examples and not voter.adapter]
        asks = {ask_of(voter, weights_digest(model, settings), None) for voter in plain}
        answered, _ = known_keys(RunDir(job.recipe.out), name)
        kept = sum(ask.key(row) in answered for ask in asks for row in rows)
        tokens = round(tokens * (1 - kept / max(1, len(prompts) * len(rows))))
    size = known.weight_bytes if known else None
    kv = settings.cpu_kv_cache_gib if not placement.gpus_each else None
    return ModelPlan(
        name,
        settings.source,
        len(rows) * len(prompts),
        kept,
        tokens,
        placement,
        None if size is None else size / GIB,
        kv,
        _seconds(tokens, known, placement, hardware),
        any(isinstance(voter, ReasonVoter | SampleVoter) for voter in voters),
        known,
    )


def _seconds(tokens: int, known: Known | None, placement: Placement, hardware: Resources) -> float | None:
    """Two FLOP per token and parameter that it meets (Kaplan et al. 2020)."""
    if known is None or (known.shape is None and known.weight_bytes is None):
        return None
    met = active_parameters(known.shape) if known.shape else (known.weight_bytes or 0) / 2
    if placement.gpus_each:
        gpu = GPUS.get(placement.kind or hardware.kinds[0] or "")
        speed = None if gpu is None else gpu.flops * _EFFICIENCY * placement.gpus_each * placement.at_most
    else:
        speed = _CPU_CORE_FLOPS * _EFFICIENCY * hardware.cpus
    return None if speed is None else 2 * met * tokens / speed


def _line(one: ModelPlan) -> str:
    kept = f", {one.kept:,} of them answered already" if one.kept else ""
    if one.placement.memory:
        memory = f"memory: {one.placement.memory}"
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
