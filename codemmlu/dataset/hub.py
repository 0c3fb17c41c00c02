"""The rows of a Hub dataset such as Fsoft-AIC/CodeMMLU, with one configuration per subject."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa

from codemmlu.dataset.readers import Record
from codemmlu.dataset.readers.arrow_reader import is_integers_with_holes, records
from codemmlu.dataset.values import is_blank
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
# Configurations that hold what the others hold: they are read last.
_WHOLES = {"all", "default", "full", "main", "combined"}


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
    order.sort(key=_WHOLES.__contains__)  # What is left of the whole after its parts keeps no other subject.
    named = known != ["default"]
    for subject in subjects or ():
        if named and subject not in known and not _WHOLES & {*known}:
            raise UserError(
                f"{address} has no {subject!r}; its subjects: {', '.join(order)}", key=f"{section}.subjects"
            )
    chosen = list(dict.fromkeys(subjects or ())) if named and {*(subjects or ())} <= {*known} else []
    without: dict[str, str] = {}
    seen: dict[bytes, str] = {}
    for subject in chosen or order:
        try:
            rows = datasets.load_dataset(dataset, subject, split=split, revision=commit)
        except failures as error:
            # A DatasetGenerationError only says that there was an error; the error's cause names the reason.
            reason = first_line((isinstance(error, DatasetGenerationError) and error.__cause__) or error)
            if len(chosen or order) > 1 and "Unknown split" in reason:
                without[subject] = reason
                continue
            raise UserError(f"{what}, {subject}, split {split} cannot be read: {reason}", key=key) from None
        found = _rows(rows, f"{address}/{subject}/{split}", subject if named else None, is_chosen=bool(chosen))
        yield from _distinct(found, subject, seen) if len(chosen or order) > 1 else found
    if without:
        if len(without) == len(chosen or order):
            raise UserError(f"{what}, split {split} cannot be read: {next(iter(without.values()))}", key=key)
        note = f"configurations without the split {split}, passed over: {', '.join(without)}"
        yield Record(address, 1, notes=(note,), passed_over=True)


def _rows(rows: Any, name: str, subject: str | None, is_chosen: bool) -> Iterator[Record]:
    """Return the rows of a configuration, whose name is the subject of rows that have none of their own.

    Args:
        rows: The rows, as the datasets library reads them.
        name: The name of the configuration in messages.
        subject: The configuration, or None where it names no subject.
        is_chosen: Whether the recipe asks for the configuration by name, so that its name is the subject.

    Yields:
        A record per row.
    """
    table = rows.with_format("arrow")
    holes = {
        field.name
        for field in rows.features.arrow_schema
        if pa.types.is_floating(field.type) and is_integers_with_holes(rows.data.column(field.name))
    }
    batches = (batch for part in table.iter(batch_size=1024) for batch in part.to_batches())
    for record in records(batches, name, rows.features.arrow_schema, holes):
        own = next((record.fields[column] for column in record.fields if column.lower() == "subject"), None)
        if subject is not None and (is_chosen or is_blank(own)):
            record = replace(record, fields={**record.fields, "subject": subject})
        yield record


def _distinct(rows: Iterator[Record], configuration: str, seen: dict[bytes, str]) -> Iterator[Record]:
    """Pass over rows that another configuration has already; rows that one configuration repeats stay."""
    for record in rows:
        fields = {name: value for name, value in record.fields.items() if name.lower() != "subject"}
        content = hashlib.sha256(repr(sorted(fields.items())).encode(errors="replace")).digest()[:16]
        if seen.setdefault(content, configuration) != configuration:
            note = f"rows of {configuration} that {seen[content]} has too: asked once"
            yield Record(record.file, record.line, notes=(note,), passed_over=True)
        else:
            yield record


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
