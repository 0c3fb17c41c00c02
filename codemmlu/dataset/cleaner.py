"""The cleaner: a record becomes a Question, or is rejected with a reason.

The rules, in the order in which they are applied:

- Columns are found by name; see `columns`.
- With `questions.subjects`, rows of other subjects are skipped.
- Rejected: no question text; choices missing, unparsable, fewer than 2 or more than 26; a repeated task_id; two fields
  of one name. A rejected row claims no task_id.
- The context of a question goes before the question.
- Empty option columns at the end of a row are choices that the question does not have; an empty option column before a
  filled one rejects the row.
- A source that writes the right choice and the wrong ones apart gets them in an order that their texts decide.
- A row without a task_id is named after its file and line (`FILE:LINE`, with the file's folders where that name is
  taken), with a note. A task_id and a subject lose the blanks around them. A task_id that another file has already
  becomes `FILE/task_id`, with a note.
- Repeated and empty choices inside a list are asked as they are; null is an empty choice. Numbers become text, and in a
  string stay as they are written; bytes are UTF-8. Nothing is stripped from a question or a choice.
- The answer may be a letter in either case, bare or decorated (`ANSWER: B`, `(b)`, `C.`, `**D**`), a letter with its
  choice (`B. Rome`), or with `questions.answers` an index or the text of a choice; see `answers`. A blank answer leaves
  the question unlabelled; an answer that is out of range or unreadable does so with a note.
- Lone surrogates (not text in any encoding) become U+FFFD, with a note.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from codemmlu.dataset.answers import AnswerForm, read_answer
from codemmlu.dataset.choices import Choices, read_choices, without_holes
from codemmlu.dataset.columns import ChoiceColumns, ColumnRow, Columns
from codemmlu.dataset.readers import Record
from codemmlu.dataset.references import references_position, without_letters
from codemmlu.dataset.values import RejectedRow, is_blank, plain
from codemmlu.schema import MAX_CHOICES, Question, Rejected, letters

_CONTROL = "\a\b\v\f"
_SURROGATES = re.compile("[\ud800-\udfff]")
# UTF-8 read as a Western encoding, control characters of no encoding, and a run of letters that no language has.
_MOJIBAKE = re.compile(
    "[\u00c3\u00c2][\u0080-\u00bf]|\u00e2\u20ac|\u00ef\u00bf\u00bd|[\u0080-\u009f]|[\u00a1-\u00ff]{4}"
)

DOUBTFUL = (
    "choices with a backslash that was read as a control character, such as \\f of \\frac; "
    "{section}.escapes=keep takes them as written"
)
GARBLED = "texts that look decoded from the wrong encoding; see {section}.encoding"
CONTROL = "texts with a control character, which JSON reads in a single backslash such as that of \\frac"
LETTERED = "choices that begin with their own letters: the letters are left out of the prompt"
POSITION = "choices that refer to letters or positions: read in their own order alone"
SHUFFLED = "rows with the right choice apart from the wrong ones: put in an order that the texts decide"


# Stands in notes for the section of the recipe that names the source: `questions` or `examples`.
SECTION = "{section}"


class _Claim(NamedTuple):
    """The row that has a task_id; `content` is a hash of its question and choices."""

    file: str
    location: str
    content: int


class Cleaner:
    """The cleaning rules applied to a stream of records, with notes on the changes.

    Attributes:
        notes: The number of rows for each kind of change or rejection.
        first: The location (`FILE:LINE`) of the first row of each note, with details where they help.
        subjects: All subjects in the source, including those that are not wanted.
        columns: The columns of the source, and which of them were used.
        example: The first answer as it is written, and its letter.
    """

    def __init__(
        self,
        columns: Mapping[Any, str | Sequence[str]] | None = None,
        answers: AnswerForm = "letter",
        subjects: Collection[str] | None = None,
        keep_escapes: bool = False,
    ) -> None:
        """Set the rules.

        Args:
            columns: The source's column names, by our names.
            answers: The form in which the source writes answers.
            subjects: The subjects that are wanted; None for all.
            keep_escapes: Whether a backslash in a string that writes a list stands for itself.
        """
        self.columns = Columns(columns)
        self._answers, self._keep_escapes = answers, keep_escapes
        self._wanted = subjects
        self._seen: dict[str, _Claim] = {}
        self._position = -1
        self.notes: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        self.subjects: set[str] = set()
        self.example: tuple[str, str] | None = None

    def clean(self, record: Record) -> Question | Rejected | None:
        """Clean the next record of the source; None for a row of a subject that is not wanted, and for no row."""
        location = f"{record.file}:{record.line}"
        for note in record.notes:
            self._note(note, location)
        if record.passed_over:
            return None
        self._position += 1
        task_id: str | None = None
        try:
            if record.fault:
                raise RejectedRow(record.fault)
            row = self.columns.row(record.fields)
            for field, name in row.lacks():
                self._note(f"rows without the column {name!r} of {SECTION}.columns.{field}", location)
            subject = self._short(row.first("subject"), "subject", location)
            self.subjects |= {subject} if subject is not None else set()
            if self._wanted is not None and subject not in self._wanted:
                return None
            task_id = own = self._short(row.first("task_id"), "task_id", location)
            question = self._question(own or "", subject, row, record)
            task_id = None  # From here on, only a repeated task_id is a reason.
            return self._named(question, own, record)
        except RejectedRow as fault:
            kind, _, details = str(fault).partition(": ")
            self._note(f"rejected: {kind}", f"{location}: {details}" if details.startswith("its columns") else location)
            return Rejected(task_id, self._text(fault, location), record.file, record.line, self._position)

    def has_claimed(self, task_id: str | None) -> bool:
        """Return whether an accepted row has a task_id."""
        return task_id in self._seen

    def _note(self, text: str, location: str) -> None:
        self.notes[text] += 1
        self.first.setdefault(text, location)

    def _text(self, value: object, location: str) -> str:
        text = plain(value)
        if _SURROGATES.search(text):
            self._note("lone surrogates became U+FFFD", location)
            text = _SURROGATES.sub("\ufffd", text)
        return text

    def _short(self, value: object, name: str, location: str) -> str | None:
        """Return a task_id or a subject; None where it is blank.

        Raises:
            RejectedRow: It is a list or an object.
        """
        if is_blank(value):
            return None
        if isinstance(value, list | tuple | dict):
            raise RejectedRow(f"the {name} is a list or an object and not text")
        return self._text(value, location).strip()

    def _named(self, question: Question, own: str | None, record: Record) -> Question:
        """Return a question under a task_id that no other row has.

        Raises:
            RejectedRow: Another row of the file has its task_id, or an equal row of another file.
        """
        location, short = f"{record.file}:{record.line}", PurePosixPath(record.file).name
        content = hash((question.question, question.choices))
        name = own or f"{short}:{record.line}"
        if own is None:
            self._note("rows without a task_id are named after their place", location)
            name = location if name in self._seen else name
        elif own in self._seen and self._seen[own].file != record.file and self._seen[own].content != content:
            self._note("task_ids that another file has already: they become FILE/task_id", location)
            name = f"{short}/{own}"
            name = f"{record.file}/{own}" if name in self._seen and self._seen[name].file != record.file else name
        if name in self._seen:
            raise RejectedRow(f"repeated task_id: {name} stands at {self._seen[name].location} already")
        self._seen[name] = _Claim(record.file, location, content)
        return replace(question, task_id=name)

    def _question(self, task_id: str, subject: str | None, row: ColumnRow, record: Record) -> Question:
        location = f"{record.file}:{record.line}"
        text = self._text(row.question(), location)
        choices, index, note = self._answered(row, location)
        texts = tuple(self._text(choice, location) for choice in choices.texts)
        if not 2 <= len(texts) <= MAX_CHOICES:
            raise RejectedRow(f"{len(texts)} choice{'s' * (len(texts) != 1)}, where 2 to {MAX_CHOICES} can be asked")
        if choices.has_doubtful_escape:
            self._note(DOUBTFUL, location)
        elif any(sign in one for one in (text, *texts) for sign in _CONTROL):
            self._note(CONTROL, location)
        if without_letters(texts) != texts:
            self._note(LETTERED, location)
        if any(map(_MOJIBAKE.search, (text, *texts))):
            self._note(GARBLED, location)
        if references_position(text, texts):
            self._note(POSITION, location)
        if note:
            self._note(note, location)
        answer = None if index is None else letters(len(texts))[index]
        if answer and not self.example:
            self.example = (plain(row.first("answer")), answer)
        return Question(
            task_id=task_id,
            subject=subject,
            question=text,
            choices=texts,
            answer=answer,
            file=record.file,
            line=record.line,
            position=self._position,
        )

    def _answered(self, row: ColumnRow, location: str) -> tuple[Choices, int | None, str | None]:
        """Return the choices of a row, the index of the right one, and a note on the answer."""
        wrong = row.distractors()
        right = row.first("answer")
        if wrong and not is_blank(right):
            texts = sorted(map(plain, (right, *wrong)), key=lambda text: hashlib.sha256(text.encode()).digest())
            self._note(SHUFFLED, location)
            return Choices(tuple(texts)), texts.index(plain(right)), None
        value = row.choices()
        if isinstance(value, ChoiceColumns):
            choices = Choices(without_holes(value.columns))
        else:
            choices = read_choices(value, self._keep_escapes)
        if not 2 <= len(choices.texts) <= MAX_CHOICES:
            return choices, None, None
        return choices, *read_answer(right, choices, self._answers)
