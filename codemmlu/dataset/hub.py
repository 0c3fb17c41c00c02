"""The rows of a Hub dataset such as Fsoft-AIC/CodeMMLU, with one configuration per subject."""

from collections.abc import Iterator

from codemmlu.dataset.readers import Record
from codemmlu.errors import UserError, first_line

# Subjects in the order of CodeMMLU's paper; a dataset without these subjects is read in the Hub's own order.
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


def read_hub(
    dataset: str, subjects: tuple[str, ...] | None, split: str, revision: str | None, section: str
) -> Iterator[Record]:
    """Read the rows of every subject.

    A dataset whose only configuration is `default` is read as it is: the subjects, if any, are a column.
    The token, the endpoint and the cache are the Hub client's own (HF_TOKEN, HF_ENDPOINT, HF_HOME).

    Args:
        dataset: OWNER/NAME on the Hub.
        subjects: The configurations to read, in this order; None for all.
        split: The split to read.
        revision: The branch, tag or commit to read; None for the newest commit.
        section: The section of the recipe that names the dataset, for errors.

    Yields:
        Records with `subject` filled in, where `line` is the row within the subject.

    Raises:
        UserError: The dataset cannot be read, or lacks a subject, or a row cannot be read.
    """
    import datasets  # This import is slow, and only this source needs it.
    import huggingface_hub
    from datasets.exceptions import DatasetGenerationError, DatasetsError
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    datasets.disable_progress_bars()
    disable_progress_bars()
    # The base classes are listed because HTTP errors of the client's own library (httpx or httpx2, by the client's
    # version) are no OSError.
    failures = (OSError, ValueError, DatasetsError, *HfHubHTTPError.__bases__)
    address = f"{dataset}@{revision}" if revision else dataset
    key, what = f"{section}.source", f"the Hub dataset {address}"
    try:
        commit = _commit(dataset, revision, section)
        if huggingface_hub.constants.HF_HUB_OFFLINE:
            known = list(subjects or SUBJECTS)  # The cache does not know the names of the configurations.
        else:
            known = datasets.get_dataset_config_names(dataset, revision=commit)
    except failures as error:
        endpoint = huggingface_hub.constants.ENDPOINT
        raise UserError(f"{what} cannot be read from {endpoint}: {first_line(error)}", key=key) from None
    order = [name for name in SUBJECTS if name in known] + [name for name in known if name not in SUBJECTS]
    named = known != ["default"]
    for subject in subjects or ():
        if named and subject not in known:
            raise UserError(
                f"{address} has no {subject!r}; its subjects: {', '.join(order)}", key=f"{section}.subjects"
            )
    for subject in dict.fromkeys(subjects) if named and subjects else order:
        try:
            rows = datasets.load_dataset(dataset, subject, split=split, revision=commit)
        except failures as error:
            # A DatasetGenerationError only says that there was an error; the error's cause names the reason.
            reason = first_line((isinstance(error, DatasetGenerationError) and error.__cause__) or error)
            raise UserError(f"{what}, {subject}, split {split} cannot be read: {reason}", key=key) from None
        subject_field = {"subject": subject} if named else {}
        for line, fields in enumerate(rows, start=1):
            yield Record(f"{address}/{subject}/{split}", line, {**fields, **subject_field})


def _commit(dataset: str, revision: str | None, section: str) -> str | None:
    """Return the commit to read; None offline, where the cache decides.

    The commit is requested once, so that every subject is of the same commit, and by a request that is not repeated:
    the datasets client spends half a minute on a Hub that is down.

    Raises:
        UserError: There is no such dataset or revision, or a revision is named offline.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return HfApi().dataset_info(dataset, revision=revision, timeout=20).sha
    except OfflineModeIsEnabled:
        if revision:
            raise UserError(
                "the cache does not say which it holds; leave it out offline", key=f"{section}.revision"
            ) from None
        return None
    except RevisionNotFoundError:
        raise UserError(f"the Hub dataset {dataset} has no revision {revision!r}", key=f"{section}.revision") from None
    except RepositoryNotFoundError:
        raise UserError(
            f"there is no file {dataset} and no such dataset on the Hub, "
            "unless a private one that HF_TOKEN does not open",
            key=f"{section}.source",
        ) from None
