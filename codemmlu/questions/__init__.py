"""Questions from where people have them: readers, cleaning with reasons, the sample set. Dirt stops in this room."""

from codemmlu.questions.clean import Cleaner
from codemmlu.questions.examples import fit_examples, held_out, read_examples, splits
from codemmlu.questions.load import Loaded, load
from codemmlu.questions.readers import Record
from codemmlu.questions.submissions import Submission, read_submission

__all__ = [
    "Cleaner",
    "Loaded",
    "Record",
    "Submission",
    "fit_examples",
    "held_out",
    "load",
    "read_examples",
    "read_submission",
    "splits",
]
