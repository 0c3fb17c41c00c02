"""Questions from where people have them: readers, cleaning with reasons, the sample set. Dirt stops in this room."""

from codemmlu.dataset.cleaner import Cleaner
from codemmlu.dataset.examples import fit_examples, held_out, is_same_source, read_examples
from codemmlu.dataset.loader import QuestionStream, load
from codemmlu.dataset.readers import Record
from codemmlu.dataset.submissions import Submission, read_submission

__all__ = [
    "Cleaner",
    "QuestionStream",
    "Record",
    "Submission",
    "fit_examples",
    "held_out",
    "is_same_source",
    "load",
    "read_examples",
    "read_submission",
]
