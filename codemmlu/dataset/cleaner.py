"""The cleaner: a record becomes a Question, or is rejected with a reason.

The rules, in the order in which they are applied:

- Columns are found by name, in upper or lower case: `task_id` (or `id`), `question`, `subject`, `answer`, and either
  `choices` (a list; in CSV a JSON or Python list in a string, never evaluated), or one column per option (`option_a` or
  `choice_a`, without a gap; `option_1` or `choice_1`), or `options` (a list), or `A`, `B`, ... without a gap.
  `questions.columns` maps other names, and a mapped column goes before a column that has our name; a note counts the
  rows that lack a mapped column. `problem_description` (the Hub's fill_in_the_middle) goes before the question.
- With `questions.subjects`, rows of other subjects are skipped.
- Rejected: no question text; choices missing, unparsable, fewer than 2 or more than 26; a repeated task_id; two fields
  of one name.
- Empty option columns at the end of a row are choices that the question does not have; an empty option column before a
  filled one rejects the row.
- A row without a task_id is named after its file and line (`FILE:LINE`, with the file's folders where that name is
  taken), with a note. A task_id and a subject lose the blanks around them.
- Repeated and empty choices inside a list are asked as they are; null is an empty choice. Numbers become text, and in a
  string stay as they are written; bytes are UTF-8. Nothing is stripped from a question or a choice.
- The answer may be a letter in either case, bare or decorated (`ANSWER: B`, `(b)`, `C.`, `**D**`), or with
  `questions.answers` an index or the text of a choice. A blank answer leaves the question unlabelled; an answer that is
  out of range or unreadable does so with a note.
- Lone surrogates (not text in any encoding) become U+FFFD, with a note.
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

_DECORATED_LETTER = re.compile(
    r"""[\s*_`"']*+
        (?:(?:the\s+)?(?:correct\s+)?(?:answer|ans|option|choice)\b(?:\s+is\b)?[\s:=*\-]*+)?
        [\s*_`"'(\[]*+([A-Za-z])[\s*_`"')\].:]*+""",
    re.IGNORECASE | re.VERBOSE,
)
# Characters. A longer text is no letter, and would cost the pattern above quadratic time.
_LONGEST_ANSWER = 100
# In a column that also has missing values, pandas writes an index such as 2 as 2.0.
_NUMBER = re.compile(r"\s*([0-9]{1,3})(?:\.0)?\s*")
_SURROGATES = re.compile("[\ud800-\udfff]")


def parse_answer_letter(text: str) -> str | None:
    """Return the letter of a text such as `ANSWER: **B**`; None where the text is no letter or says more."""
    text = text.strip()  # The blanks around it are of any number.
    match = _DECORATED_LETTER.fullmatch(text) if len(text) <= _LONGEST_ANSWER else None
    return match[1].upper() if match else None


def _is_blank(value: object) -> bool:
    return not plain(value).strip()


class Cleaner:
    """The cleaning rules applied to a stream of records, with notes on the changes.

    Attributes:
        notes: The number of rows for each kind of change or rejection.
        first: The location (`FILE:LINE`) of the first row of each note.
        subjects: All subjects in the source, including those that are not wanted.
    """

    def __init__(
        self,
        columns: Mapping[Any, str] | None = None,
        answers: AnswerForm = "letter",
        subjects: Collection[str] | None = None,
    ) -> None:
        """Set the rules.

        Args:
            columns: The source's column names, by our names.
            answers: The form in which the source writes answers.
            subjects: The subjects that are wanted; None for all.
        """
        self._columns = {ours: theirs.lower() for ours, theirs in (columns or {}).items()}
        self._answers = answers
        self._wanted = subjects
        self._seen: dict[str, str] = {}
        self._position = -1
        self.notes: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        self.subjects: set[str] = set()

    def clean(self, record: Record) -> Question | Rejected | None:
        """Clean the next record of the source; None for a row of a subject that is not wanted."""
        self._position += 1
        location = f"{record.file}:{record.line}"
        task_id: str | None = None
        try:
            if record.fault:
                raise RejectedRow(record.fault)
            if record.note:
                self._note(record.note, location)
            fields = self._fields(record, location)
            subject = None if _is_blank(fields.get("subject")) else self._text(fields["subject"], location).strip()
            self.subjects |= {subject} if subject is not None else set()
            if self._wanted is not None and subject not in self._wanted:
                return None
            own = self._task_id(fields, location)
            name = own or self._name_after_location(record)
            if name in self._seen:
                raise RejectedRow(f"repeated task_id: {name} stands at {self._seen[name]} already")
            self._seen[name] = location
            task_id = own
            return self._question(name, subject, fields, record)
        except RejectedRow as fault:
            self._note(f"rejected: {str(fault).split(':')[0]}", location)
            return Rejected(task_id, self._text(fault, location), record.file, record.line, self._position)

    def _note(self, text: str, location: str) -> None:
        self.notes[text] += 1
        self.first.setdefault(text, location)

    def _text(self, value: object, location: str) -> str:
        text = plain(value)
        if _SURROGATES.search(text):
            self._note("lone surrogates became U+FFFD", location)
            text = _SURROGATES.sub("\ufffd", text)
        return text

    def _fields(self, record: Record, location: str) -> dict[str, Any]:
        """Return the fields of a record under our names."""
        fields = {name.lower(): value for name, value in record.fields.items()}
        if len(fields) < len(record.fields):
            twice = next(name for name, times in Counter(map(str.lower, record.fields)).items() if times > 1)
            raise RejectedRow(f"two fields of one name: {twice!r}, in upper and in lower case")
        mapped = {ours: fields[theirs] for ours, theirs in self._columns.items() if theirs in fields}
        for ours, theirs in self._columns.items():
            if ours not in mapped:
                self._note(f"rows without the column {theirs!r} of questions.columns.{ours}", location)
        rest = {name: value for name, value in fields.items() if name not in self._columns.values()}
        return rest | mapped

    def _task_id(self, fields: Mapping[str, Any], location: str) -> str | None:
        value = fields.get("task_id", fields.get("id"))
        if _is_blank(value):
            self._note("rows without a task_id are named after their place", location)
            return None
        return self._text(value, location).strip()

    def _name_after_location(self, record: Record) -> str:
        name = f"{PurePosixPath(record.file).name}:{record.line}"
        return f"{record.file}:{record.line}" if name in self._seen else name

    def _question(self, task_id: str, subject: str | None, fields: Mapping[str, Any], record: Record) -> Question:
        location = f"{record.file}:{record.line}"
        parts = [fields.get("problem_description"), fields.get("question")]
        question = "\n\n".join(self._text(part, location) for part in parts if not _is_blank(part))
        if not question:
            raise RejectedRow("no question text")
        choices = tuple(self._text(choice, location) for choice in listed(fields))
        if not 2 <= len(choices) <= MAX_CHOICES:
            raise RejectedRow(
                f"{len(choices)} choice{'s' * (len(choices) != 1)}, where 2 to {MAX_CHOICES} can be asked"
            )
        return Question(
            task_id=task_id,
            subject=subject,
            question=question,
            choices=choices,
            answer=self._answer(fields.get("answer"), choices, location),
            file=record.file,
            line=record.line,
            position=self._position,
        )

    def _answer(self, value: object, choices: tuple[str, ...], location: str) -> str | None:
        if _is_blank(value):
            return None
        names, text = letters(len(choices)), self._text(value, location)
        if self._answers == "text":
            matches = [i for i, choice in enumerate(choices) if choice == text]
            if not matches and text.lower() in ("true", "false"):  # Python writes True where JSON writes true.
                matches = [i for i, choice in enumerate(choices) if choice.lower() == text.lower()]
            index = matches[0] if len(matches) == 1 else None
        elif self._answers == "letter":
            letter = parse_answer_letter(text)
            if letter and letter not in names:
                self._note(f"answer {letter} of {len(choices)} choices: unlabelled", location)
                return None
            index = names.index(letter) if letter else None
        else:
            number = _NUMBER.fullmatch(text.strip())
            index = int(number[1]) - (self._answers == "one-based") if number else None
            index = index if index is not None and 0 <= index < len(choices) else None
        if index is None:
            self._note(f"answers that are not the {_NAMES[self._answers]} of one choice: unlabelled", location)
            return None
        return names[index]
