"""One stream of cleaned questions out of whatever `questions.source` names."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from codemmlu.errors import UserError
from codemmlu.questions import hub, source
from codemmlu.questions.clean import Cleaner
from codemmlu.questions.readers import READERS, Record
from codemmlu.recipe import QuestionSettings
from codemmlu.rows import Question, Rejected


@dataclass
class Loaded:
    """What loading has seen so far; complete once its rows have been consumed."""

    settings: QuestionSettings
    questions: int = 0
    labelled: int = 0
    rejected: int = 0
    most_choices: int = 0
    cleaner: Cleaner = field(init=False)

    def __post_init__(self) -> None:
        self.cleaner = Cleaner(self.settings.columns, self.settings.answers)

    def rows(self) -> Iterator[Question | Rejected]:
        """Every row of the source in file order, up to `limit` accepted ones.

        Raises UserError when the source cannot be read or holds nothing that can be asked.
        """
        wanted = set(self.settings.subjects or ())
        for record in _records(self.settings):
            if self.questions == self.settings.limit:
                return
            row = self.cleaner.clean(record)
            if isinstance(row, Rejected):
                self.rejected += 1
            elif wanted and row.subject not in wanted:
                continue
            else:
                self.questions += 1
                self.labelled += row.answer is not None
                self.most_choices = max(self.most_choices, len(row.choices))
            yield row
        if not self.questions:
            why = "; ".join(self.notes()) or "it has no rows"
            raise UserError(f"questions.source: nothing in {self.settings.source} can be asked: {why}")

    def notes(self) -> list[str]:
        """What cleaning has to say, one line a kind, the most frequent first."""
        cleaner = self.cleaner
        return [f"{count:,} x {note} (first at {cleaner.first[note]})" for note, count in cleaner.notes.most_common()]


def load(settings: QuestionSettings) -> Loaded:
    """The questions of a recipe, not read yet."""
    return Loaded(settings)


def _records(settings: QuestionSettings) -> Iterator[Record]:
    if source.is_hub(settings.source):
        yield from hub.read_hub(settings.source, settings.subjects, settings.split, settings.revision)
        return
    for file in source.files(settings.source):
        with file.open() as stream:
            yield from READERS[file.ending](stream, file.name, settings.encoding)
