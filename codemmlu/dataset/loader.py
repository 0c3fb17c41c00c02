"""A stream of cleaned questions from the source that a recipe names."""

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

import pyarrow as pa

from codemmlu.dataset import files, hub
from codemmlu.dataset.base_of_numbers import check_base
from codemmlu.dataset.cleaner import SECTION, Cleaner
from codemmlu.dataset.columns import Columns
from codemmlu.dataset.limits import Limits
from codemmlu.dataset.readers import READERS, NoTableError, Record, WrongBytesError
from codemmlu.errors import UserError, first_line
from codemmlu.recipe import QuestionSettings
from codemmlu.schema import Question, Rejected

# Rejected rows at which reading ends where there are so many for each question.
_MOST_REJECTED, _REJECTED_PER_QUESTION = 20_000, 100


class QuestionStream:
    """The cleaned rows of a source; the counts are complete once the rows have been consumed.

    Attributes:
        questions: The number of accepted questions; `labelled` of them have an answer.
        rejected: The number of rows that cannot be asked.
        most_choices: The most choices of any accepted question.
    """

    def __init__(
        self,
        settings: QuestionSettings,
        only: frozenset[str] | None = None,
        cleaner: Cleaner | None = None,
        section: str = "questions",
    ) -> None:
        """Name the source; nothing is read yet.

        Args:
            settings: The source and how it is read.
            only: The task_ids to accept; None for all.
            cleaner: The cleaner of rows that have been cleaned already; see `select`.
            section: The section of the recipe that names the source, for errors and notes.
        """
        self.settings = settings
        self.questions = self.labelled = self.rejected = self.most_choices = 0
        self._only, self._section = only, section
        keep = settings.escapes == "keep"
        self._cleaner = cleaner or Cleaner(settings.columns, settings.answers, settings.subjects, keep)
        self._by_file: Counter[str] = Counter()
        self._labelled_by_file: Counter[str] = Counter()

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
        cleaner = self._cleaner
        cleaned = (cleaner.clean(record) for record in _records(self.settings, self._section, cleaner.columns))
        rows = (row for row in cleaned if row is not None)
        return self.select(check_base(rows, self.settings.answers, cleaner.notes, cleaner.first))

    def select(self, cleaned: Iterator[Question | Rejected]) -> Iterator[Question | Rejected]:
        """Accept, count and limit cleaned rows, like `rows`."""
        for row in cleaned:
            if isinstance(row, Rejected):
                self.rejected += 1
                self._check_rejected()
            elif self._only is not None and row.task_id not in self._only:
                continue
            else:
                self.questions += 1
                self.labelled += row.answer is not None
                self._by_file[row.file] += 1
                self._labelled_by_file[row.file] += row.answer is not None
                self.most_choices = max(self.most_choices, len(row.choices))
            yield row
            if self.questions == self.settings.limit:
                return
        self._check_complete()

    def _check_rejected(self) -> None:
        """Refuse a source that is no table of questions: its rows may be millions, and all of them are kept."""
        if self.rejected > max(_MOST_REJECTED, _REJECTED_PER_QUESTION * self.questions):
            why = "; ".join(self._row_notes(self._section))
            what = f"{self.rejected:,} rows of {self.settings.source} rejected, {self.questions:,} accepted: {why}"
            raise UserError(what, key=f"{self._section}.source")

    def _check_complete(self) -> None:
        seen = self._cleaner.subjects
        for subject in self.settings.subjects or ():
            if subject not in seen:
                known = ", ".join(sorted(seen)) or "none"
                raise UserError(
                    f"{self.settings.source} has no {subject!r}; its subjects: {known}", key=f"{self._section}.subjects"
                )
        if not self.questions:
            why = "; ".join(self._row_notes(self._section)) or "it has no rows"
            columns = self._cleaner.columns
            header = "" if columns.is_known() else "; is there a header line?"
            what = f"nothing in {self.settings.source} can be asked: {why}{header}"
            raise UserError(what, key=f"{self._section}.source")

    def notes(self, section: str = "") -> list[str]:
        """Return the notes of cleaning, one line per kind, the most frequent first, and notes on columns and files.

        Args:
            section: The section of the recipe whose keys the notes name; empty: the section of the source.

        Returns:
            The lines.
        """
        return [*self._row_notes(section or self._section), *self._column_notes(), *self._file_notes()]

    def _row_notes(self, section: str) -> list[str]:
        cleaner = self._cleaner
        return [
            f"{count:,} x {note.replace(SECTION, section)} (first at {cleaner.first[note]})"
            for note, count in cleaner.notes.most_common()
        ]

    def _column_notes(self) -> list[str]:
        """Return the columns that hold the context, and the columns that are not used."""
        columns = self._cleaner.columns
        context = columns.by_field().get("context")
        unused = [] if self.settings.source == "sample" else columns.unused()  # Ours say how the sample was made.
        lines = [f"columns put before the question: {', '.join(context)}"] if context else []
        return [*lines, f"columns that are not used: {', '.join(unused)}"] if unused else lines

    def _file_notes(self) -> list[str]:
        """Return which files have answers, where some have answers and others have none."""
        with_answers = [file for file in self._by_file if self._labelled_by_file[file]]
        without = [file for file in self._by_file if not self._labelled_by_file[file]]
        if not with_answers or not without:
            return []
        named = [", ".join(PurePosixPath(file).name for file in some[:10]) for some in (with_answers, without)]
        return [f"with answers: {named[0]}; without answers: {named[1]}"]


def _records(settings: QuestionSettings, section: str, columns: Columns) -> Iterator[Record]:
    """Read the rows of a source."""
    if files.is_hub(settings.source):
        yield from hub.read_hub(settings.source, settings.subjects, settings.split, settings.revision, section)
        return
    found = list(files.files(settings.source, f"{section}.source"))
    limits = Limits(settings.max_line_mib, settings.max_field_mib, settings.max_row_group_mib, section)
    for file in found:
        try:
            yield from _of_file(file, settings.encoding, limits, columns, is_alone=len(found) == 1)
        # A cut archive, a broken Parquet page or a struct with a name twice, for example, ends here.
        except (OSError, pa.ArrowException, ValueError, OverflowError, MemoryError) as error:
            raise UserError(f"{file.name} cannot be read: {first_line(error)}", key=f"{section}.source") from None
        except NoTableError as error:
            raise UserError(str(error), key=f"{section}.source") from None
        except WrongBytesError as error:
            raise UserError(str(error).replace(SECTION, section)) from None


def _of_file(
    file: files.SourceFile, encoding: str, limits: Limits, columns: Columns, is_alone: bool
) -> Iterator[Record]:
    """Read the rows of a file; one of several files is passed over where it has no column for a question.

    Yields:
        The rows.

    Raises:
        NoTableError: The only file is no text.
    """
    with file.open() as stream:
        rows = READERS[file.ending](stream, file.name, encoding, limits)
        try:
            first = next(rows, None)
        except NoTableError as error:
            if is_alone:
                raise
            yield Record(file.name, 1, notes=(f"files that are no text ({error}): passed over",), passed_over=True)
            return
        if first is None:
            return
        if not is_alone and first.fields and not columns.asks(first.fields):
            what = f"files without a question ({PurePosixPath(file.name).name}: {', '.join(first.fields)})"
            yield Record(file.name, first.line, notes=(f"{what}: passed over",), passed_over=True)
            return
        yield first
        yield from rows
