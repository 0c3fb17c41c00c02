"""Estimates of a run: answers, prompt tokens, memory and seconds of each model, and of training.

Estimating starts nothing. The numbers are rough on purpose, and shown with the word "about".
"""

import math
from dataclasses import dataclass, replace

from codemmlu.dataset import QuestionSet
from codemmlu.engine import model_source
from codemmlu.engine.model_source import cache_folder
from codemmlu.engine.placement.gpus import GPUS, Resources
from codemmlu.engine.placement.memory import GIB, active_parameters
from codemmlu.engine.placement.model_facts import ModelFacts
from codemmlu.engine.placement.placement import Placement, place, refuse_idle_gpus
from codemmlu.engine.scripted import is_scripted
from codemmlu.errors import UserError
from codemmlu.inference.answer_store import known_keys
from codemmlu.inference.methods import METHODS
from codemmlu.inference.voters import SpecBuilder, weights_digest
from codemmlu.mcq import render
from codemmlu.recipe import (
    FinetuneSettings,
    ModelVoter,
    Recipe,
    method_settings,
    uses_examples,
)
from codemmlu.retrieval.embedder import find as find_embedder
from codemmlu.retrieval.index import place_of
from codemmlu.retrieval.index_store import check_embedder, kind_for, read_manifest
from codemmlu.run_dir import RunDir
from codemmlu.schema import Question

# Characters per token of code and English in today's tokenizers.
_CHARACTERS_PER_TOKEN = 3.2
_EFFICIENCY = 0.4  # the share of a chip's peak speed that a batched prefill reaches
_CPU_CORE_FLOPS = 0.85e12


@dataclass(frozen=True)
class ModelPlan:
    """The work of one model; None where a value is not known without asking the Hub.

    Attributes:
        name: The name of the model in the recipe.
        source: The source of the model in the recipe.
        asks: The number of answers to infer, those that are stored included.
        kept: The number of these answers that are stored already.
        tokens: The prompt tokens of the answers that are not stored.
        placement: The engines of the model.
        weights_gib: The size of the model's files.
        kv_gib: The size of the KV cache of an engine on the CPU.
        seconds: The time of the prompts after start-up.
        writes: Whether a voter also generates text, which `seconds` leaves out.
        known: The known facts about the model.
    """

    name: str
    source: str
    asks: int
    kept: int | None
    tokens: int
    placement: Placement
    weights_gib: float | None
    kv_gib: float | None
    seconds: float | None
    writes: bool
    known: ModelFacts | None


@dataclass(frozen=True)
class ExamplesPlan:
    """The index of examples that a run would use.

    Attributes:
        count: The number of examples.
        characters: The mean length of an example; 0 where only the index is there.
        line: The description for the user.
    """

    count: int
    characters: float
    line: str


def examples_of(recipe: Recipe, questions: QuestionSet) -> ExamplesPlan | None:
    """Return the index that a run would use; None where no voter looks at examples.

    Raises:
        UserError: There is neither an index nor a source to make an index of, or another embedder made the index.
    """
    settings = recipe.examples
    if not any(uses_examples(voter) for voter in recipe.voters.values()):
        return None
    where = place_of(recipe)
    manifest = read_manifest(where)
    embedder = find_embedder(settings.embedder, cache_folder())
    if settings.source is None:
        if manifest:
            check_embedder(manifest, settings, embedder, where)
        if manifest is None:
            raise UserError(f"there is none at {where.shown}; give examples.source to make it of", key="examples.index")
        return ExamplesPlan(manifest.count, 0, f"examples: {manifest.count:,} in the index at {where.shown}")
    rows = questions.examples
    characters = sum(len(row.question) + sum(map(len, row.choices)) for row in rows) / len(rows)
    kind = kind_for(settings.kind, len(rows))
    state = "stands there, and is checked when the run starts" if manifest else "is made"
    line = (
        f"examples: {len(rows):,} with an answer from {settings.source}; an index ({kind}, {settings.embedder.source}) "
        f"{state} at {where.shown}"
    )
    return ExamplesPlan(len(rows), characters, line)


@dataclass(frozen=True)
class TrainingPlan:
    """The work of training an adapter.

    Attributes:
        examples: The number of examples in the train part.
        sequences: The number of sequences in all epochs.
        tokens: The number of tokens in all sequences.
        steps: The number of optimizer steps.
        seconds: The time of training; None where the model or the GPU is not known.
    """

    examples: int
    sequences: int
    tokens: int
    steps: int
    seconds: float | None


def training_of(
    recipe: Recipe, settings: FinetuneSettings, questions: QuestionSet, hardware: Resources
) -> TrainingPlan:
    """Estimate a training on the recipe's examples; an empty part of the examples is a UserError."""
    from codemmlu.training.training_set import build_training_set  # This import is slow, and few recipes train.

    # The run itself finds the examples in the prompt and the preference pairs; here only their number counts.
    plain = settings.model_copy(update={"pairs_from": None, "synthesise": 0, "teacher": None})
    rows = [
        row for row in build_training_set(plain, recipe.seed, questions).table.to_pylist() if row["part"] == "train"
    ]
    characters = sum(len(row["question"]) + sum(map(len, row["choices"])) for row in rows)
    sequences = (len(rows) + settings.synthesise) * settings.epochs * settings.orders
    shown = 1 + settings.examples * (1 - settings.withhold)
    tokens = round(characters * shown / _CHARACTERS_PER_TOKEN * sequences / len(rows))
    steps = math.ceil(sequences / (settings.batch_size * settings.accumulation * settings.workers))
    model = recipe.models[settings.model]
    known = model_source.known(model.source, model.revision, cache_folder())
    # A forward and a backward pass through frozen weights cost the same, and checkpointing adds a forward pass.
    passes = 3 if settings.gradient_checkpointing else 2
    workers = Placement(settings.workers, 1 if hardware.gpus else 0, 0, {"tensor_parallel_size": 1})
    seconds = _seconds(tokens, known, workers, hardware)
    return TrainingPlan(len(rows), sequences, tokens, steps, None if seconds is None else seconds * passes)


def model_of(
    recipe: Recipe,
    name: str,
    rows: list[Question],
    hardware: Resources,
    examples: ExamplesPlan | None,
) -> ModelPlan:
    """Estimate the work of one model; a model that cannot be placed is a UserError.

    Args:
        recipe: The recipe of the run.
        name: The name of the model in the recipe.
        rows: The questions that are asked.
        hardware: The hardware of the run, which may be simulated.
        examples: The index that the run would use, if any.

    Returns:
        The plan of the model on the whole hardware.
    """
    settings = recipe.models[name]
    if not is_scripted(settings.source):
        refuse_idle_gpus(hardware)
    known = model_source.known(settings.source, settings.revision, cache_folder())
    placement = place(name, settings, hardware, known)
    voters = [v for v in recipe.asked.values() if isinstance(v, ModelVoter) and v.model == name]
    prompts = sorted(
        {(v.template, v.examples, str(v.adapter or ""), v.method, str(method_settings(v))) for v in voters}
    )
    # Further readings share the question's tokens in the prefix cache and add only the tokens of the choices.
    characters = sum(len(render(row, template).messages[0].content) for row in rows for template, *_ in prompts)
    shown = sum(count for _, count, *_ in prompts) * len(rows)
    tokens = round((characters + shown * (examples.characters if examples else 0)) / _CHARACTERS_PER_TOKEN)
    kept = None
    if not model_source.is_on_hub(settings.source):
        model = model_source.validate(settings.source, settings.revision, cache_folder())
        # Which answers with examples are stored is known only once the index of the examples is checked.
        plain = [voter for voter in voters if not voter.examples and not voter.adapter]
        weights = weights_digest(model, settings)
        builder = SpecBuilder(weights, seed=recipe.seed, length=settings.max_model_len)
        specs = {builder.build(voter) for voter in plain}
        answered, _ = known_keys(RunDir(recipe.out), name)
        kept = sum(spec.key(row) in answered for spec in specs for row in rows)
        tokens = round(tokens * (1 - kept / max(1, len(prompts) * len(rows))))
    size = known.weight_bytes if known else None
    has_cache_on_cpu = not placement.gpus_each and not is_scripted(settings.source)
    kv = settings.cpu_kv_cache_gib if has_cache_on_cpu else None
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
        any(METHODS[voter.method].writes for voter in voters),
        known,
    )


def placed(plan: ModelPlan, placement: Placement, hardware: Resources) -> ModelPlan:
    """Return the plan with another placement, such as a share of the hardware beside other models."""
    seconds = _seconds(plan.tokens, plan.known, placement, hardware)
    return replace(plan, placement=placement, seconds=seconds)


def _seconds(tokens: int, known: ModelFacts | None, placement: Placement, hardware: Resources) -> float | None:
    """Return seconds at two FLOP per token and active parameter (Kaplan et al. 2020); None if unknown."""
    if known is None or (known.shape is None and known.weight_bytes is None):
        return None
    active = active_parameters(known.shape) if known.shape else (known.weight_bytes or 0) / 2
    if placement.gpus_each:
        gpu = GPUS.get(placement.kind or hardware.kinds[0] or "")
        speed = None if gpu is None else gpu.flops * _EFFICIENCY * placement.gpus_each * placement.at_most
    else:
        speed = _CPU_CORE_FLOPS * _EFFICIENCY * hardware.cpus
    return None if speed is None else 2 * active * tokens / speed
