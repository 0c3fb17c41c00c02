"""Questions from a Hub dataset such as Fsoft-AIC/CodeMMLU, one configuration per subject."""

import os
from collections.abc import Iterator

from codemmlu.errors import UserError
from codemmlu.questions.readers import Record

# The order in which CodeMMLU's paper lists them; a dataset without these is read in the Hub's own order.
SUBJECTS = (
    "programming_syntax",
    "api_frameworks",
    "software_principles",
    "dbms_sql",
    "others",
    "code_completion",
    "fill_in_the_middle",
    "code_repair",
    "defect_detection",
)


def read_hub(dataset: str, subjects: tuple[str, ...] | None, split: str, revision: str | None) -> Iterator[Record]:
    """The rows of every subject, each with `subject` filled in; `line` is the row within its subject.

    The token, the endpoint and the cache are the Hub client's own (HF_TOKEN, HF_ENDPOINT, HF_HOME).
    """
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    import datasets  # slow to import, and only this source needs it

    at = f"{dataset}@{revision}" if revision else dataset
    try:
        known = datasets.get_dataset_config_names(dataset, revision=revision)
    except (OSError, ValueError) as error:
        raise UserError(f"questions.source: the Hub dataset {at} cannot be read: {_first_line(error)}") from None
    order = [name for name in SUBJECTS if name in known] + [name for name in known if name not in SUBJECTS]
    for subject in subjects or order:
        if subject not in known:
            raise UserError(f"questions.subjects: {at} has no {subject!r}; it has {', '.join(order)}")
        try:
            rows = datasets.load_dataset(dataset, subject, split=split, revision=revision)
        except (OSError, ValueError) as error:
            raise UserError(f"questions.source: {at}, {subject}, split {split}: {_first_line(error)}") from None
        for line, fields in enumerate(rows, start=1):
            given = {} if subject == "default" else {"subject": subject}
            yield Record(f"{at}/{subject}/{split}", line, {**given, **fields})


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
