"""What a run would take: asks, prompt tokens, memory and seconds of each model, and of training. Starts nothing.

Rough on purpose: who shows these says "about".
"""

import math
from dataclasses import dataclass, replace

from codemmlu import dataset
from codemmlu.engine import model_source
from codemmlu.engine.model_source import cache_folder
from codemmlu.engine.placement.gpus import GPUS, Resources
from codemmlu.engine.placement.memory import GIB, ModelFacts, active_parameters
from codemmlu.engine.placement.placement import Placement, place, refuse_idle_gpus
from codemmlu.engine.scripted import is_scripted
from codemmlu.errors import UserError
from codemmlu.inference.answer_store import known_keys
from codemmlu.inference.voters import build_run_spec, weights_digest
from codemmlu.mcq import render
from codemmlu.recipe import (
    FinetuneSettings,
    ReasonVoter,
    Recipe,
    RetrieveVoter,
    SampleVoter,
    method_settings,
    uses_examples,
)
from codemmlu.retrieval.embedder import find as find_embedder
from codemmlu.retrieval.index import place_of
from codemmlu.retrieval.index_store import check_embedder, kind_for, read_manifest
from codemmlu.run_dir import RunDir
from codemmlu.schema import Question

# Characters per token of code and English in today's tokenizers, and the share of a chip's peak that a batched prefill
# reaches.
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
    known: ModelFacts | None


@dataclass(frozen=True)
class ExamplesPlan:
    """The index a run would use."""

    count: int
    characters: float  # of one example, on average
    line: str


def examples_of(recipe: Recipe, held: frozenset[str]) -> ExamplesPlan | None:
    """None where nothing looks at examples; held: their contents, which are not shown.

    Raises UserError where there is neither an index nor what to make it of, or where it is of another embedder.
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
            raise UserError(f"examples.index: there is none at {where.shown}; give examples.source to make it of")
        return ExamplesPlan(manifest.count, 0, f"examples: {manifest.count:,} in the index at {where.shown}")
    rows, _ = dataset.read_examples(settings, held)
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
    """What training an adapter would take."""

    examples: int
    sequences: int
    tokens: int
    steps: int
    seconds: float | None


def training_of(recipe: Recipe, settings: FinetuneSettings, hardware: Resources) -> TrainingPlan:
    """What finetune would do with the recipe's examples. Raises UserError for what they are not fit for."""
    from codemmlu.training.training_set import build_training_set  # slow to import, and few recipes train

    # Examples in the prompt and pairs are found when the run starts; here they only count.
    plain = settings.model_copy(update={"pairs_from": None, "synthesise": 0})
    rows = [row for row in build_training_set(recipe, plain, None).table.to_pylist() if row["part"] == "train"]
    characters = sum(len(row["question"]) + sum(map(len, row["choices"])) for row in rows)
    sequences = (len(rows) + settings.synthesise) * settings.epochs
    shown = 1 + settings.examples * (1 - settings.withhold)
    tokens = round(characters * shown / _CHARACTERS_PER_TOKEN * sequences / len(rows))
    steps = math.ceil(sequences / (settings.batch_size * settings.accumulation * settings.workers))
    model = recipe.models[settings.model]
    known = model_source.known(model.source, model.revision, cache_folder())
    # Forwards and backwards through frozen weights cost the same, and so does computing forwards once more.
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
    """What one model of the recipe would do with these questions. Raises UserError where it cannot be placed."""
    settings = recipe.models[name]
    if not is_scripted(settings.source):
        refuse_idle_gpus(hardware)
    known = model_source.known(settings.source, settings.revision, cache_folder())
    placement = place(name, settings, hardware, known)
    voters = [v for v in recipe.asked.values() if not isinstance(v, RetrieveVoter) and v.model == name]
    prompts = sorted({(v.template, v.examples, v.adapter or "", v.method, str(method_settings(v))) for v in voters})
    # Further readings share the question's tokens in the prefix cache; what they add is the choices' part.
    characters = sum(len(render(row, template).messages[0].content) for row in rows for template, *_ in prompts)
    shown = sum(count for _, count, *_ in prompts) * len(rows)
    tokens = round((characters + shown * (examples.characters if examples else 0)) / _CHARACTERS_PER_TOKEN)
    kept = None
    if not model_source.is_on_hub(settings.source):
        model = model_source.validate(settings.source, settings.revision, cache_folder())
        # What an ask with examples has answered is known once their index is checked.
        plain = [voter for voter in voters if not voter.examples and not voter.adapter]
        weights = weights_digest(model, settings)
        asks = {build_run_spec(weights, None, None, recipe.seed, settings.max_model_len, voter) for voter in plain}
        answered, _ = known_keys(RunDir(recipe.out), name)
        kept = sum(ask.key(row) in answered for ask in asks for row in rows)
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
        any(isinstance(voter, ReasonVoter | SampleVoter) for voter in voters),
        known,
    )


def placed(one: ModelPlan, placement: Placement, hardware: Resources) -> ModelPlan:
    """The same with the engines that it shares the hardware with."""
    seconds = _seconds(one.tokens, one.known, placement, hardware)
    return replace(one, placement=placement, seconds=seconds)


def _seconds(tokens: int, known: ModelFacts | None, placement: Placement, hardware: Resources) -> float | None:
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
