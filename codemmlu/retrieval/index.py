"""The shelf: the index of solved examples that a run needs, made where it does not stand."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from codemmlu import dataset
from codemmlu.dataset.dedup import content_key
from codemmlu.dataset.examples import asked_content_keys, holdout_ids
from codemmlu.engine.model_source import cache_folder
from codemmlu.engine.placement.placement import refuse_without_gpu
from codemmlu.errors import Progress, UserError
from codemmlu.recipe import ExampleSettings, Recipe, digest
from codemmlu.retrieval.embedder import Embedder
from codemmlu.retrieval.embedder import find as find_embedder
from codemmlu.retrieval.index_store import (
    MANIFEST,
    IndexManifest,
    IndexSpec,
    check_embedder,
    fingerprint,
    kind_for,
    read_manifest,
)
from codemmlu.retrieval.selection import SelectionPolicy
from codemmlu.run_dir import RunDir, check_persistent_path

if TYPE_CHECKING:
    from codemmlu.retrieval import shared_index


@dataclass(frozen=True)
class RetrievalKey:
    """How asks look at solved examples.

    fingerprint: of the index and of the rule by which examples are chosen
    fitted: the same, and what the weights of `retrieve` were fitted without
    tokens: of all examples in one prompt
    spare: how many more examples are looked up than are shown, to stand in for those that are too long
    """

    fingerprint: str
    fitted: str
    tokens: int
    spare: bool


@dataclass(frozen=True)
class ExampleIndex:
    """An index that stands, and how this run looks into it."""

    index: RunDir
    manifest: IndexManifest
    embedder: Embedder
    settings: ExampleSettings
    rule: SelectionPolicy

    @property
    def retrieval_key(self) -> RetrievalKey:
        """What the asks' keys know of it."""
        looks = digest(self.manifest.fingerprint, asdict(self.rule))
        left_out = self.manifest.weights.left_out if self.manifest.weights else ""
        return RetrievalKey(looks, digest(looks, left_out), self.settings.tokens, spare=not self.rule.diversity)


def place_of(recipe: Recipe) -> RunDir:
    """Where the index of a recipe is. Raises UserError."""
    settings = recipe.examples
    if settings.index is None:
        return RunDir(recipe.out).below("index")
    check_persistent_path(settings.index, "examples.index")
    try:
        return RunDir(settings.index)
    except UserError as error:
        raise UserError(str(error).replace("out:", "examples.index:", 1)) from None


def ensure_index(recipe: Recipe, progress: Progress, labelled: bool) -> ExampleIndex:
    """The index of solved examples: made if it does not stand or its inputs changed. Raises UserError."""
    settings = recipe.examples
    where = place_of(recipe)
    embedder = find_embedder(settings.embedder, cache_folder())
    rule = SelectionPolicy.of(settings, labelled)
    asked = asked_content_keys(recipe)
    if settings.source is None:
        return ExampleIndex(where, _prebuilt(recipe, progress, where, embedder, asked), embedder, settings, rule)
    if settings.index is None or not where.is_local:
        return ExampleIndex(where, _made(recipe, progress, where, embedder, asked), embedder, settings, rule)
    where.create()
    with where.lock():  # a place of its own: another run may be making the same
        return ExampleIndex(where, _made(recipe, progress, where, embedder, asked), embedder, settings, rule)


def _prebuilt(
    recipe: Recipe, progress: Progress, where: RunDir, embedder: Embedder, asked: frozenset[str]
) -> IndexManifest:
    """An index that somebody else made: used as it stands, but for weights that were fitted on what is asked now."""
    settings = recipe.examples
    manifest = read_manifest(where)
    if manifest is None:
        raise UserError(f"examples.index: there is none at {where.shown}; give examples.source to make it of")
    check_embedder(manifest, settings, embedder, where)
    progress.say(f"examples: {manifest.count:,} in the index at {where.shown} ({manifest.kind})")
    files = [shard.examples for shard in manifest.shards]
    theirs = {str(twin) for name in files for twin in where.read_table(name, ["twin"])["twin"].to_pylist()}
    plan = _plan(recipe, progress, embedder, manifest.kind, manifest.fingerprint, asked, theirs)
    return _fitted(recipe, progress, where, manifest, plan)


def _made(
    recipe: Recipe, progress: Progress, where: RunDir, embedder: Embedder, asked: frozenset[str]
) -> IndexManifest:
    """The index of examples.source: as it stands, with other weights, or made anew."""
    say = progress.say
    settings = recipe.examples
    manifest = read_manifest(where)
    examples, notes = dataset.read_examples(settings, holdout_ids(recipe) or frozenset())
    kind = kind_for(settings.kind, len(examples))
    content = digest(*((q.task_id, q.question, q.choices, q.answer) for q in examples))
    wanted = fingerprint(settings, embedder, kind, content, recipe.seed)
    plan = _plan(recipe, progress, embedder, kind, wanted, asked, {content_key(example) for example in examples})
    if manifest and manifest.fingerprint == wanted:
        say(f"examples: {manifest.count:,} from {settings.source}; their index stands and nothing changed: reused")
        fitted = _fitted(recipe, progress, where, manifest, plan)
        if fitted is not manifest:
            where.write(MANIFEST, fitted.model_dump_json(indent=1).encode())
        return fitted
    why = _changed(manifest, embedder, settings, kind)
    say(f"examples: {len(examples):,} with an answer from {settings.source}{why}")
    for note in notes:
        say(f"  {note}")
    from codemmlu.cluster import locks, session
    from codemmlu.retrieval import index_builder

    resources = session.join()
    if settings.embedder.device == "cuda":
        refuse_without_gpu(resources)
    where.create()
    locks.refuse_unshared(where)
    manifest = index_builder.build(progress, where, plan, examples)
    recall = "" if manifest.recall_at_10 is None else f", recall@10 {manifest.recall_at_10:.3f} against exact"
    say(
        f"examples: an index of {manifest.count:,} ({kind}, {manifest.dimensions} dimensions{recall}) is at "
        f"{where.shown}; {manifest.examples_per_second:.1f} examples/s embedded"
    )
    return manifest


def _plan(
    recipe: Recipe,
    progress: Progress,
    embedder: Embedder,
    kind: str,
    wanted: str,
    asked: frozenset[str],
    examples: set[str],
) -> IndexSpec:
    both = asked & examples
    left_out = digest(*sorted(both)) if both else ""
    return IndexSpec(recipe.examples, embedder, kind, wanted, recipe.seed, both, left_out)


def _fitted(
    recipe: Recipe, progress: Progress, where: RunDir, manifest: IndexManifest, plan: IndexSpec
) -> IndexManifest:
    """The manifest with weights that were fitted on none of the questions that are asked now."""
    if manifest.weights and manifest.weights.left_out == plan.left_out:
        return manifest
    from codemmlu.cluster import session
    from codemmlu.retrieval import index_builder

    progress.say("examples: other questions are asked than before, the weights are fitted without them")
    session.join()
    return index_builder.refit(where, manifest, plan)


def _changed(manifest: IndexManifest | None, embedder: Embedder, settings: ExampleSettings, kind: str) -> str:
    """Why an index that stands is made again."""
    if manifest is None:
        return ""
    was = {"embedder": manifest.embedder_fingerprint, "text": manifest.text, "kind": manifest.kind}
    now = {"embedder": embedder.fingerprint, "text": settings.text, "kind": kind}
    other = [name for name, value in was.items() if value != now[name]] or ["examples or seed"]
    return f"; the index is made anew, its {' and '.join(other)} changed"


def publish(index: ExampleIndex) -> "shared_index.SharedIndex":
    """The index in Ray's object store, once for all pools."""
    from codemmlu.retrieval import shared_index

    return shared_index.publish(index.index, index.manifest, index.embedder, index.settings, index.rule)
