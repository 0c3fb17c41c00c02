"""Questions from where people have them: readers, cleaning with reasons, the sample set. Dirt stops in this room."""

from codemmlu.dataset.cleaner import Cleaner
from codemmlu.dataset.examples import fit_examples, held_out, read_examples, splits
from codemmlu.dataset.loader import Loaded, load
from codemmlu.dataset.readers import Record
from codemmlu.dataset.submissions import Submission, read_submission

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
