"""The leak guard of a job: it speaks up before anything is asked or trained."""

from codemmlu.cli.job import JobContext
from codemmlu.dataset import QuestionSet
from codemmlu.dataset.leakage import leak_note
from codemmlu.recipe import EvidenceVoter, ProbeVoter, Recipe, uses_examples


def tell_leak(job: JobContext, questions: QuestionSet) -> None:
    """Print a warning where many questions stand among the examples; the benchmark with its answers is a UserError."""
    if _reads_examples(job.recipe) and (note := leak_note(job.recipe, questions)):
        job.terminal.say(note)


def _reads_examples(recipe: Recipe) -> bool:
    """Return whether a job reads the rows of examples.source anyway, which may be many."""
    if recipe.examples.source is None:
        return False
    learns = any(
        isinstance(voter, EvidenceVoter | ProbeVoter) or uses_examples(voter) for voter in recipe.voters.values()
    )
    return learns or recipe.vote.fit is not None or recipe.finetune is not None
