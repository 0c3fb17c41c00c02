"""The index of solved examples that a run needs: found, or built where there is none that fits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codemmlu.dataset import QuestionSet
from codemmlu.dataset.dedup import content_key
from codemmlu.engine.model_source import cache_folder
from codemmlu.engine.placement.placement import refuse_without_gpu
from codemmlu.errors import Progress, UserError
from codemmlu.recipe import ExampleSettings, Recipe, digest, digested
from codemmlu.retrieval.embedder import Embedder
from codemmlu.retrieval.embedder import find as find_embedder
from codemmlu.retrieval.index_store import (
    MANIFEST,
    BrokenManifestError,
    IndexManifest,
    IndexSpec,
    check_embedder,
    faults_of_files,
    fingerprint,
    kind_for,
    read_examples,
    read_manifest,
    remedy,
)
from codemmlu.retrieval.selection import SelectionPolicy
from codemmlu.run_dir import RunDir, check_persistent_path
from codemmlu.run_dir.ownership import check_ours, claim
from codemmlu.schema import Question

if TYPE_CHECKING:
    from codemmlu.retrieval import shared_index


@dataclass(frozen=True)
class RetrievalKey:
    """How inference specs look at solved examples.

    Attributes:
        fingerprint: Digest of the index and of the policy by which examples are selected.
        fitted: The same, with the examples that the weights of `retrieve` were fitted without.
        tokens: The most tokens of all examples in one prompt.
        spare: Whether more examples are looked up than are shown, to replace examples that are too long.
    """

    fingerprint: str
    fitted: str
    tokens: int
    spare: bool


@dataclass(frozen=True)
class ExampleIndex:
    """An index that exists, and how this run looks at it."""

    index: RunDir
    manifest: IndexManifest
    embedder: Embedder
    settings: ExampleSettings
    policy: SelectionPolicy

    @property
    def retrieval_key(self) -> RetrievalKey:
        """Return what the answer keys of specs depend on."""
        looks = digest(self.manifest.fingerprint, digested(self.policy))
        left_out = self.manifest.weights.left_out if self.manifest.weights else ""
        return RetrievalKey(looks, digest(looks, left_out), self.settings.tokens, spare=not self.policy.diversity)


def place_of(recipe: Recipe) -> RunDir:
    """Return the directory of a recipe's index.

    Args:
        recipe: The recipe.

    Returns:
        The directory, which may not exist; an address that cannot be used is a UserError.
    """
    settings = recipe.examples
    if settings.index is None:
        return RunDir(recipe.out).below("index")
    check_persistent_path(settings.index, "examples.index")
    return RunDir(settings.index, "examples.index")


@dataclass(frozen=True)
class _IndexInputs:
    """What finding or building an index depends on."""

    recipe: Recipe
    progress: Progress
    questions: QuestionSet
    index: RunDir
    embedder: Embedder

    def spec(self, kind: str, fingerprint: str, content_keys: set[str]) -> IndexSpec:
        """Return what the index is built of.

        Args:
            kind: exact, hnsw or ivfpq.
            fingerprint: The fingerprint of the inputs.
            content_keys: The content keys of the examples.

        Returns:
            The spec, which leaves the questions that are asked out of the weights.
        """
        asked = self.questions.content_keys & content_keys
        left_out = digest(*sorted(asked)) if asked else ""
        recipe = self.recipe
        return IndexSpec(recipe.examples, self.embedder, kind, fingerprint, recipe.seed, frozenset(asked), left_out)


def ensure_index(recipe: Recipe, progress: Progress, questions: QuestionSet, labelled: bool) -> ExampleIndex:
    """Return the index of solved examples; build it where there is none, or where its inputs changed.

    A UserError says if there is neither an index nor examples to build it of, or if it does not fit the recipe.

    Args:
        recipe: The recipe of the run.
        progress: Where to report.
        questions: The questions that are asked, and the examples.
        labelled: Whether any question has an answer, which decides how duplicates are treated.

    Returns:
        The index, with weights that are fitted on no question that is asked.
    """
    settings = recipe.examples
    embedder = find_embedder(settings.embedder, cache_folder())
    inputs = _IndexInputs(recipe, progress, questions, place_of(recipe), embedder)
    policy = SelectionPolicy.of(settings, labelled)
    if settings.source is None:
        manifest = _prebuilt(inputs)
    elif settings.index is None or not inputs.index.is_local:
        manifest = _made(inputs)
    else:
        check_ours(inputs.index, "examples.index")
        inputs.index.create()
        with inputs.index.lock():  # Outside the run directory another run may be building the same index.
            manifest = _made(inputs)
    return ExampleIndex(inputs.index, manifest, embedder, settings, policy)


def _prebuilt(inputs: _IndexInputs) -> IndexManifest:
    """Return an index that another run built, with weights fitted on no question that is asked now."""
    index, settings = inputs.index, inputs.recipe.examples
    manifest = read_manifest(index)
    if manifest is None:
        raise UserError(f"there is none at {index.shown}; give examples.source to make it of", key="examples.index")
    check_embedder(manifest, settings, inputs.embedder, index)
    inputs.progress.say(f"examples: {manifest.count:,} in the index at {index.shown} ({manifest.kind})")
    content_keys = {str(key) for shard in manifest.shards for key in read_examples(index, shard)["twin"].to_pylist()}
    return _fitted(inputs, manifest, inputs.spec(manifest.kind, manifest.fingerprint, content_keys))


def _made(inputs: _IndexInputs) -> IndexManifest:
    """Return the index of examples.source: as it is, with other weights, or built anew."""
    recipe, index, embedder, say = inputs.recipe, inputs.index, inputs.embedder, inputs.progress.say
    settings = recipe.examples
    manifest = _own_manifest(inputs)
    examples = inputs.questions.examples
    kind = kind_for(settings.kind, len(examples))
    content = digest(*((q.task_id, q.question, q.choices, q.answer) for q in examples))
    wanted = fingerprint(settings, embedder, kind, content, recipe.seed)
    spec = inputs.spec(kind, wanted, {content_key(example) for example in examples})
    if manifest and manifest.fingerprint == wanted and not _is_whole(inputs, manifest):
        manifest = None
    if manifest and manifest.fingerprint == wanted:
        say(f"examples: {manifest.count:,} from {settings.source}; their index stands and nothing changed: reused")
        fitted = _fitted(inputs, manifest, spec)
        if fitted is not manifest:
            index.write(MANIFEST, fitted.model_dump_json(indent=1).encode())
        return fitted
    why = _changed(manifest, embedder, settings, kind)
    say(f"examples: {len(examples):,} with an answer from {settings.source}{why}")
    for note in inputs.questions.example_notes:
        say(f"  {note}")
    return _build(inputs, spec, examples)


def _own_manifest(inputs: _IndexInputs) -> IndexManifest | None:
    """Return the manifest of an index that this run may build anew; a broken one in its own directory is set aside.

    Raises:
        BrokenManifestError: The manifest is broken, and the index lies where the recipe says.
    """
    try:
        return read_manifest(inputs.index)
    except BrokenManifestError as error:
        if inputs.recipe.examples.index is not None:
            raise
        new = inputs.index.set_aside(MANIFEST)
        inputs.progress.say(f"{str(error).partition(';')[0]}: it is kept as {new}, and the index is made anew")
        return None


def _is_whole(inputs: _IndexInputs, manifest: IndexManifest) -> bool:
    """Return whether an index has all of its files; those of this run's own index that are broken are set aside.

    Raises:
        UserError: A file is broken, and the index lies where the recipe says.
    """
    index = inputs.index
    faults = faults_of_files(index, manifest)
    for name, why in faults.items():
        if inputs.recipe.examples.index is not None:
            raise UserError(f"{index.shown}/{name} {why}; {remedy(index)}", key="examples.index")
        kept = f", it is kept as {index.set_aside(name).rpartition('/')[2]}" if index.exists(name) else ""
        inputs.progress.say(f"{index.shown}/{name} {why}{kept}: the index is made anew")
    return not faults


def _build(inputs: _IndexInputs, spec: IndexSpec, examples: Sequence[Question]) -> IndexManifest:
    from codemmlu.cluster import locks, session  # Slow to import, and most runs find their index.
    from codemmlu.retrieval import index_builder

    resources = session.join()
    if spec.settings.embedder.device == "cuda":
        refuse_without_gpu(resources)
    if spec.settings.index is not None:
        check_ours(inputs.index, "examples.index")
    inputs.index.create()
    if spec.settings.index is not None:
        claim(inputs.index, "examples.index")
    locks.refuse_unshared(inputs.index)
    manifest = index_builder.build(inputs.progress, inputs.index, spec, examples)
    recall = "" if manifest.recall_at_10 is None else f", recall@10 {manifest.recall_at_10:.3f} against exact"
    inputs.progress.say(
        f"examples: an index of {manifest.count:,} ({spec.kind}, {manifest.dimensions} dimensions{recall}) is at "
        f"{inputs.index.shown}; {manifest.examples_per_second:.1f} examples/s embedded"
    )
    return manifest


def _fitted(inputs: _IndexInputs, manifest: IndexManifest, spec: IndexSpec) -> IndexManifest:
    """Return the manifest with weights that are fitted on none of the questions that are asked now."""
    if manifest.weights and manifest.weights.left_out == spec.left_out:
        return manifest
    from codemmlu.cluster import session  # Slow to import, and most runs find their weights.
    from codemmlu.retrieval import index_builder

    inputs.progress.say("examples: other questions are asked than before, the weights are fitted without them")
    session.join()
    return index_builder.refit(inputs.index, manifest, spec)


def _changed(manifest: IndexManifest | None, embedder: Embedder, settings: ExampleSettings, kind: str) -> str:
    """Return why an existing index is built again, as the end of a message."""
    if manifest is None:
        return ""
    was = {"embedder": manifest.embedder_fingerprint, "text": manifest.text, "kind": manifest.kind}
    now = {"embedder": embedder.fingerprint, "text": settings.text, "kind": kind}
    other = [name for name, value in was.items() if value != now[name]] or ["examples or seed"]
    return f"; the index is made anew, its {' and '.join(other)} changed"


def share(index: ExampleIndex) -> "shared_index.SharedIndex":
    """Put the index into Ray's object store, once for all pools; an actor opens it with `shared_index.load`."""
    from codemmlu.retrieval import shared_index

    return shared_index.publish(index.index, index.manifest, index.embedder, index.settings, index.policy)
