"""The shelf: the index of solved examples that a run needs, made where it does not stand."""

from dataclasses import asdict, dataclass

from codemmlu import questions as question_room
from codemmlu.answering.asks import View
from codemmlu.command import Job
from codemmlu.engine.sources import cache_folder
from codemmlu.errors import UserError
from codemmlu.recipe import ExampleSettings, Recipe, digest
from codemmlu.retrieval.encoder import Embedder
from codemmlu.retrieval.encoder import find as find_embedder
from codemmlu.retrieval.neighbours import Rule
from codemmlu.retrieval.store import Manifest, check_embedder, fingerprint, kind_for, read_manifest
from codemmlu.run_dir import RunDir


@dataclass(frozen=True)
class Shelf:
    """An index that stands, and how this run looks into it."""

    index: RunDir
    manifest: Manifest
    embedder: Embedder
    settings: ExampleSettings
    rule: Rule

    @property
    def view(self) -> View:
        """What the asks' keys know of it."""
        fingerprint = digest(self.manifest.fingerprint, asdict(self.rule))
        return View(fingerprint, self.settings.tokens, spare=not self.rule.diversity)


def held_out_of(recipe: Recipe) -> frozenset[str] | None:
    """The task_ids that a holdout asks, None where there is nothing to hold out of."""
    holdout = recipe.questions.holdout
    if holdout is None or not question_room.splits(recipe.questions, recipe.examples):
        return None
    return question_room.held_out(recipe.questions, holdout)


def find_shelf(job: Job, run: RunDir, labelled: bool) -> Shelf:
    """The index of solved examples: made if it does not stand or its inputs changed. Raises UserError."""
    recipe, say = job.recipe, job.terminal.say
    settings = recipe.examples
    where = RunDir(settings.index) if settings.index else run.below("index")
    embedder = find_embedder(settings.embedder, cache_folder())
    rule = Rule.of(settings, labelled)
    manifest = read_manifest(where)
    if settings.source is None:
        if manifest is None:
            raise UserError(f"examples.index: there is none at {where.shown}; give examples.source to make it of")
        check_embedder(manifest, settings, embedder, where)
        say(f"examples: {manifest.count:,} in the index at {where.shown} ({manifest.kind})")
        return Shelf(where, manifest, embedder, settings, rule)
    examples, notes = question_room.read_examples(settings, held_out_of(recipe) or frozenset())
    kind = kind_for(settings.kind, len(examples))
    content = digest(*((q.task_id, q.question, q.choices, q.answer) for q in examples))
    wanted = fingerprint(settings, embedder, kind, content, recipe.seed)
    if manifest and manifest.fingerprint == wanted:
        say(f"examples: {manifest.count:,} from {settings.source}; their index stands and nothing changed: reused")
        return Shelf(where, manifest, embedder, settings, rule)
    why = _changed(manifest, embedder, settings, kind)
    say(f"examples: {len(examples):,} with an answer from {settings.source}{why}")
    for note in notes:
        say(f"  {note}")
    from codemmlu import cluster, indexing  # in this order: see cluster

    cluster.join()
    cluster.refuse_unshared(run)
    where.create()
    manifest = indexing.build(
        job.terminal, where, indexing.Plan(settings, embedder, kind, wanted, recipe.seed), examples
    )
    recall = "" if manifest.recall_at_10 is None else f", recall@10 {manifest.recall_at_10:.3f} against exact"
    say(
        f"examples: an index of {manifest.count:,} ({kind}, {manifest.dimensions} dimensions{recall}) is at "
        f"{where.shown}; {manifest.examples_per_second:.1f} examples/s embedded"
    )
    return Shelf(where, manifest, embedder, settings, rule)


def _changed(manifest: Manifest | None, embedder: Embedder, settings: ExampleSettings, kind: str) -> str:
    """Why an index that stands is made again."""
    if manifest is None:
        return ""
    was = {"embedder": manifest.embedder_fingerprint, "text": manifest.text, "kind": manifest.kind}
    now = {"embedder": embedder.fingerprint, "text": settings.text, "kind": kind}
    other = [name for name, value in was.items() if value != now[name]] or ["examples or seed"]
    return f"; the index is made anew, its {' and '.join(other)} changed"
