"""Cleaning: a record becomes a Question, or is rejected with a reason. The rules, in the order they are applied:

- Columns are found by name, upper or lower case: `task_id` (or `id`), `question`, `subject`, `answer`, and either
  `choices` (a list; in CSV a JSON or Python list in a string, never evaluated), or one column per option (`option_a` or
  `choice_a`, without a gap; `option_1` or `choice_1`), or `options` (a list), or `A`, `B`, ... without a gap.
  `questions.columns` maps other names and goes before a column that has our name; a row that lacks the column it names
  is counted and said. `problem_description` (the Hub's fill_in_the_middle) goes before the question.
- With `questions.subjects`, rows of other subjects are passed over.
- Rejected: no question text; choices missing, unparsable, fewer than 2 or more than 26; a repeated task_id; two fields
  of one name.
- Empty option columns at the end of a row are choices the question does not have; one in between is rejected.
- A row without a task_id is named after its place (`FILE:LINE`, with the file's folders where that is taken), and this
  is said. A task_id and a subject lose the blanks around them.
- Repeated and empty choices inside a list are asked as they stand; null is an empty one. Numbers become text, in a
  string as they are written there; bytes are UTF-8. Nothing is stripped from a question or a choice.
- The answer may be a letter in either case, alone or dressed up (`ANSWER: B`, `(b)`, `C.`, `**D**`), or with
  `questions.answers` an index or the text of a choice. Blank: unlabelled. Out of range or unreadable: unlabelled, said.
- Lone surrogates (not text in any encoding) become U+FFFD, and this is said.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import Any, Literal

from codemmlu.dataset.choices import RejectedRow, listed, plain
from codemmlu.dataset.readers import Record
from codemmlu.schema import MAX_CHOICES, Question, Rejected, letters

AnswerForm = Literal["letter", "zero-based", "one-based", "text"]
_NAMES = {"letter": "letter", "zero-based": "zero-based number", "one-based": "one-based number", "text": "text"}

_DRESSED_LETTER = re.compile(
    r"""[\s*_`"']*
        (?:(?:the\s+)?(?:correct\s+)?(?:answer|ans|option|choice)\b(?:\s+is\b)?[\s:=*\-]*)?
        [\s*_`"'(\[]*([A-Za-z])[\s*_`"')\].:]*""",
    re.IGNORECASE | re.VERBOSE,
)
_LONGEST_ANSWER = 100  # characters; what is longer is no letter, and costs the pattern above quadratic time
_NUMBER = re.compile(r"\s*([0-9]{1,3})(?:\.0)?\s*")  # pandas writes an index beside a missing one as 2.0
_SURROGATES = re.compile("[\ud800-\udfff]")


def parse_answer_letter(text: str) -> str | None:
    """The letter that a text is, however it is dressed (`ANSWER: **B**`); None of what says more, or no letter."""
    match = _DRESSED_LETTER.fullmatch(text) if len(text.strip()) <= _LONGEST_ANSWER else None
    return match[1].upper() if match else None


def _is_blank(value: object) -> bool:
    return not plain(value).strip()


class Cleaner:
    """Applies the rules above to a stream of records and keeps what must be said about it.

    notes: what was changed or dropped on the way, counted, each with its first place.
    subjects: all that were seen, those that nobody asked for included.
    """

    def __init__(
        self,
        columns: Mapping[Any, str] | None = None,
        answers: AnswerForm = "letter",
        subjects: Collection[str] | None = None,
    ) -> None:
        self._columns = {ours: theirs.lower() for ours, theirs in (columns or {}).items()}
        self._answers = answers
        self._wanted = subjects
        self._seen: dict[str, str] = {}
        self._position = -1
        self.notes: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        self.subjects: set[str] = set()

    def clean(self, record: Record) -> Question | Rejected | None:
        """One row in, one row out; None for a row of a subject that nobody asked for."""
        self._position += 1
        place = f"{record.file}:{record.line}"
        task_id: str | None = None
        try:
            if record.fault:
                raise RejectedRow(record.fault)
            if record.note:
                self._note(record.note, place)
            fields = self._fields(record, place)
            subject = None if _is_blank(fields.get("subject")) else self._text(fields["subject"], place).strip()
            self.subjects |= {subject} if subject is not None else set()
            if self._wanted is not None and subject not in self._wanted:
                return None
            own = self._task_id(fields, place)
            name = own or self._name_after_place(record)
            if name in self._seen:
                raise RejectedRow(f"repeated task_id: {name} stands at {self._seen[name]} already")
            self._seen[name] = place
            task_id = own
            return self._question(name, subject, fields, record)
        except RejectedRow as fault:
            self._note(f"rejected: {str(fault).split(':')[0]}", place)
            return Rejected(task_id, self._text(fault, place), record.file, record.line, self._position)

    def _note(self, text: str, place: str) -> None:
        self.notes[text] += 1
        self.first.setdefault(text, place)

    def _text(self, value: object, place: str) -> str:
        text = plain(value)
        if _SURROGATES.search(text):
            self._note("lone surrogates became U+FFFD", place)
            text = _SURROGATES.sub("\ufffd", text)
        return text

    def _fields(self, record: Record, place: str) -> dict[str, Any]:
        """The record's fields under our names."""
        fields = {name.lower(): value for name, value in record.fields.items()}
        if len(fields) < len(record.fields):
            twice = next(name for name, times in Counter(map(str.lower, record.fields)).items() if times > 1)
            raise RejectedRow(f"two fields of one name: {twice!r}, in upper and in lower case")
        mapped = {ours: fields[theirs] for ours, theirs in self._columns.items() if theirs in fields}
        for ours, theirs in self._columns.items():
            if ours not in mapped:
                self._note(f"rows without the column {theirs!r} of questions.columns.{ours}", place)
        rest = {name: value for name, value in fields.items() if name not in self._columns.values()}
        return rest | mapped

    def _task_id(self, fields: Mapping[str, Any], place: str) -> str | None:
        value = fields.get("task_id", fields.get("id"))
        if _is_blank(value):
            self._note("rows without a task_id are named after their place", place)
            return None
        return self._text(value, place).strip()

    def _name_after_place(self, record: Record) -> str:
        name = f"{PurePosixPath(record.file).name}:{record.line}"
        return f"{record.file}:{record.line}" if name in self._seen else name

    def _question(self, task_id: str, subject: str | None, fields: Mapping[str, Any], record: Record) -> Question:
        place = f"{record.file}:{record.line}"
        parts = [fields.get("problem_description"), fields.get("question")]
        question = "\n\n".join(self._text(part, place) for part in parts if not _is_blank(part))
        if not question:
            raise RejectedRow("no question text")
        choices = tuple(self._text(choice, place) for choice in listed(fields))
        if not 2 <= len(choices) <= MAX_CHOICES:
            raise RejectedRow(
                f"{len(choices)} choice{'s' * (len(choices) != 1)}, where 2 to {MAX_CHOICES} can be asked"
            )
        return Question(
            task_id=task_id,
            subject=subject,
            question=question,
            choices=choices,
            answer=self._answer(fields.get("answer"), choices, place),
            file=record.file,
            line=record.line,
            position=self._position,
        )

    def _answer(self, value: object, choices: tuple[str, ...], place: str) -> str | None:
        if _is_blank(value):
            return None
        names, text = letters(len(choices)), self._text(value, place)
        if self._answers == "text":
            alike = [place for place, choice in enumerate(choices) if choice == text]
            if not alike and text.lower() in ("true", "false"):  # written by Python there and by JSON here
                alike = [place for place, choice in enumerate(choices) if choice.lower() == text.lower()]
            index = alike[0] if len(alike) == 1 else None
        elif self._answers == "letter":
            letter = parse_answer_letter(text)
            if letter and letter not in names:
                self._note(f"answer {letter} of {len(choices)} choices: unlabelled", place)
                return None
            index = names.index(letter) if letter else None
        else:
            number = _NUMBER.fullmatch(text)
            index = int(number[1]) - (self._answers == "one-based") if number else None
            index = index if index is not None and 0 <= index < len(choices) else None
        if index is None:
            self._note(f"answers that are not the {_NAMES[self._answers]} of one choice: unlabelled", place)
            return None
        return names[index]
