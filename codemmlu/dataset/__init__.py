"""The questions of a run: read, cleaned, split, deduplicated and generated.

Faulty rows go no further than this package, and each is rejected with a reason.
"""

from codemmlu.dataset.cleaner import Cleaner
from codemmlu.dataset.loader import QuestionStream
from codemmlu.dataset.question_set import InMemory, QuestionSet
from codemmlu.dataset.readers import Record
from codemmlu.dataset.submissions import Sample, Submission, read_sample, read_submission

__all__ = [
    "Cleaner",
    "InMemory",
    "QuestionSet",
    "QuestionStream",
    "Record",
    "Sample",
    "Submission",
    "read_sample",
    "read_submission",
]
