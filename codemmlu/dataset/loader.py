"""A stream of cleaned questions from the source that a recipe names."""

from collections.abc import Iterator

import pyarrow as pa

from codemmlu.dataset import files, hub
from codemmlu.dataset.cleaner import Cleaner
from codemmlu.dataset.limits import Limits
from codemmlu.dataset.readers import READERS, Record, WrongBytesError
from codemmlu.errors import UserError, first_line
from codemmlu.recipe import QuestionSettings
from codemmlu.schema import Question, Rejected


class QuestionStream:
    """The cleaned rows of a source; the counts are complete once the rows have been consumed.

    Attributes:
        questions: The number of accepted questions; `labelled` of them have an answer.
        rejected: The number of rows that cannot be asked.
        most_choices: The most choices of any accepted question.
    """

    def __init__(
        self, settings: QuestionSettings, only: frozenset[str] | None = None, cleaner: Cleaner | None = None
    ) -> None:
        """Name the source; nothing is read yet.

        Args:
            settings: The source and how it is read.
            only: The task_ids to accept; None for all.
            cleaner: The cleaner of rows that have been cleaned already; see `select`.
        """
        self.settings = settings
        self.questions = self.labelled = self.rejected = self.most_choices = 0
        self._only = only
        self._cleaner = cleaner or Cleaner(settings.columns, settings.answers, settings.subjects)

    @property
    def cleaner(self) -> Cleaner:
        """The cleaner of the rows, with the notes that cleaning took."""
        return self._cleaner

    def rows(self) -> Iterator[Question | Rejected]:
        """Read and clean the source in file order; rows of other subjects are skipped.

        Consuming the rows raises a UserError where the source cannot be read, lacks a subject that the recipe names,
        or has no question that can be asked.

        Returns:
            Questions, up to `limit` accepted ones, and rejected rows.
        """
        cleaned = (self._cleaner.clean(record) for record in _records(self.settings))
        return self.select(row for row in cleaned if row is not None)

    def select(self, cleaned: Iterator[Question | Rejected]) -> Iterator[Question | Rejected]:
        """Accept, count and limit cleaned rows, like `rows`."""
        for row in cleaned:
            if isinstance(row, Rejected):
                self.rejected += 1
            elif self._only is not None and row.task_id not in self._only:
                continue
            else:
                self.questions += 1
                self.labelled += row.answer is not None
                self.most_choices = max(self.most_choices, len(row.choices))
            yield row
            if self.questions == self.settings.limit:
                return
        self._check_complete()

    def _check_complete(self) -> None:
        seen = self._cleaner.subjects
        for subject in self.settings.subjects or ():
            if subject not in seen:
                known = ", ".join(sorted(seen)) or "none"
                raise UserError(f"questions.subjects: {self.settings.source} has no {subject!r}; its subjects: {known}")
        if not self.questions:
            why = "; ".join(self.notes()) or "it has no rows"
            raise UserError(f"questions.source: nothing in {self.settings.source} can be asked: {why}")

    def notes(self) -> list[str]:
        """Return the notes of cleaning, one line per kind, the most frequent first."""
        cleaner = self._cleaner
        return [f"{count:,} x {note} (first at {cleaner.first[note]})" for note, count in cleaner.notes.most_common()]


def _limits(settings: QuestionSettings) -> Limits:
    return Limits(settings.max_line_mib, settings.max_field_mib, settings.max_row_group_mib)


def _records(settings: QuestionSettings) -> Iterator[Record]:
    if files.is_hub(settings.source):
        yield from hub.read_hub(settings.source, settings.subjects, settings.split, settings.revision)
        return
    for file in files.files(settings.source):
        with file.open() as stream:
            try:
                yield from READERS[file.ending](stream, file.name, settings.encoding, _limits(settings))
            # A cut archive, a broken Parquet page or a struct with a name twice, for example, ends here.
            except (OSError, pa.ArrowException, ValueError, OverflowError, MemoryError) as error:
                raise UserError(f"questions.source: {file.name} cannot be read: {first_line(error)}") from None
            except WrongBytesError as error:
                raise UserError(
                    f"{error}; set questions.encoding to what the file is written in (for example cp1252)"
                ) from None
