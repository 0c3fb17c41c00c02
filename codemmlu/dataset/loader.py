"""One stream of cleaned questions out of whatever `questions.source` names."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from codemmlu.dataset import files, hub
from codemmlu.dataset.cleaner import Cleaner
from codemmlu.dataset.readers import READERS, Record, WrongBytesError
from codemmlu.errors import UserError, first_line
from codemmlu.recipe import QuestionSettings
from codemmlu.schema import Question, Rejected


@dataclass
class QuestionStream:
    """What loading has seen so far; complete once its rows have been consumed. `only`: these task_ids are asked."""

    settings: QuestionSettings
    only: frozenset[str] | None = None
    questions: int = 0
    labelled: int = 0
    rejected: int = 0
    most_choices: int = 0
    cleaner: Cleaner = field(init=False)

    def __post_init__(self) -> None:
        self.cleaner = Cleaner(self.settings.columns, self.settings.answers, self.settings.subjects)

    def rows(self) -> Iterator[Question | Rejected]:
        """Every row of the source in file order, up to `limit` accepted ones; rows of other subjects are passed over.

        Raises UserError when the source cannot be read, lacks a subject that was asked for or holds nothing that can
        be asked.
        """
        for record in _records(self.settings):
            row = self.cleaner.clean(record)
            if row is None:
                continue
            if isinstance(row, Rejected):
                self.rejected += 1
            elif self.only is not None and row.task_id not in self.only:
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
        seen = self.cleaner.subjects
        for subject in self.settings.subjects or ():
            if subject not in seen:
                known = ", ".join(sorted(seen)) or "none"
                raise UserError(f"questions.subjects: {self.settings.source} has no {subject!r}; its subjects: {known}")
        if not self.questions:
            why = "; ".join(self.notes()) or "it has no rows"
            raise UserError(f"questions.source: nothing in {self.settings.source} can be asked: {why}")

    def notes(self) -> list[str]:
        """What cleaning has to say, one line a kind, the most frequent first."""
        cleaner = self.cleaner
        return [f"{count:,} x {note} (first at {cleaner.first[note]})" for note, count in cleaner.notes.most_common()]


def load(settings: QuestionSettings, only: frozenset[str] | None = None) -> QuestionStream:
    """The questions of a recipe, not read yet; `only` those with these task_ids, where it is given."""
    return QuestionStream(settings, only)


def _records(settings: QuestionSettings) -> Iterator[Record]:
    if files.is_hub(settings.source):
        yield from hub.read_hub(settings.source, settings.subjects, settings.split, settings.revision)
        return
    for file in files.files(settings.source):
        with file.open() as stream:
            try:
                yield from READERS[file.ending](stream, file.name, settings.encoding)
            except (
                OSError,
                pa.ArrowException,
                UnicodeDecodeError,
                OverflowError,
            ) as error:  # a cut archive, a broken Parquet page
                raise UserError(f"questions.source: {file.name} cannot be read: {first_line(error)}") from None
            except WrongBytesError as error:
                raise UserError(
                    f"{error}; set questions.encoding to what the file is written in (for example cp1252)"
                ) from None
