"""Cleaning: a record becomes a Question, or is rejected with a reason. The rules, in the order they are applied:

- Columns are found by name, upper or lower case: `task_id` (or `id`), `question`, `subject`, `answer`, and either
  `choices` (a list; in CSV a Python or JSON list in a string, never evaluated) or one column per option (`A`, `B`, ...;
  `option_a` or `choice_a`; `option_1` or `choice_1`). `questions.columns` maps other names. `problem_description` (the
  Hub's fill_in_the_middle) goes before the question.
- Rejected: no question text; choices missing, unparsable, fewer than 2 or more than 26; a repeated task_id.
- Empty option columns at the end of a row are choices the question does not have; one in between is rejected.
- A row without a task_id is named after its place (`FILE:LINE`), and this is said.
- Repeated and empty choices inside a list are asked as they stand. Numbers become text. Nothing is stripped.
- The answer may be a letter in either case, alone or dressed up (`ANSWER: B`, `(b)`, `C.`, `**D**`), or with
  `questions.answers` an index or the text of a choice. Blank: unlabelled. Out of range or unreadable: unlabelled, said.
- Lone surrogates (not text in any encoding) become U+FFFD, and this is said.
"""

import ast
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Literal

from codemmlu.questions.readers import Record
from codemmlu.rows import MAX_CHOICES, Question, Rejected, letters

AnswerForm = Literal["letter", "zero-based", "one-based", "text"]

_DRESSED_LETTER = re.compile(
    r"""[\s*_`"']*
        (?:(?:the\s+)?(?:correct\s+)?(?:answer|ans|option|choice)\b(?:\s+is\b)?[\s:=*\-]*)?
        [\s*_`"'(\[]*([A-Za-z])[\s*_`"')\].:]*""",
    re.IGNORECASE | re.VERBOSE,
)
_OPTION_COLUMN = re.compile(r"(?:(?:option|choice)[ _]?)?([a-z])|(?:option|choice)[ _]?([0-9]{1,2})")
_SURROGATES = re.compile("[\ud800-\udfff]")
_FIELDS = ("task_id", "question", "choices", "answer", "subject", "problem_description")


class _FaultyError(Exception):
    """Why a record cannot be asked."""


def _choices(value: object) -> list[str]:
    """The choices of a list, or of a string that writes one; read as a literal, never evaluated."""
    if isinstance(value, str):
        text = value.strip()
        for parse in (ast.literal_eval, json.loads):
            try:
                value = parse(text)
                break
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
        else:
            raise _FaultyError("choices cannot be read as a list")
    if not isinstance(value, list | tuple):
        raise _FaultyError("no choices" if value is None else f"choices are a {type(value).__name__}, not a list")
    if any(isinstance(item, list | tuple | dict | set) for item in value):
        raise _FaultyError("choices hold a list inside the list")
    return ["" if item is None else str(item) for item in value]


def _option_columns(fields: Mapping[str, Any]) -> list[str]:
    """The choices of a row with one column per option, in the order of their letters or numbers."""
    found: dict[int, Any] = {}
    for name, value in fields.items():
        if match := _OPTION_COLUMN.fullmatch(name):
            found[ord(match[1]) - ord("a") if match[1] else int(match[2])] = value
    values = [found[place] for place in sorted(found)]
    while values and (values[-1] is None or values[-1] == ""):
        values.pop()
    if any(value is None or value == "" for value in values):
        raise _FaultyError("an empty option column before a filled one")
    return [str(value) for value in values]


class Cleaner:
    """Applies the rules above to a stream of records and keeps what must be said about it.

    notes: what was changed or dropped on the way, counted, each with its first place.
    """

    def __init__(self, columns: Mapping[Any, str] | None = None, answers: AnswerForm = "letter") -> None:
        self._columns = {theirs.lower(): ours for ours, theirs in (columns or {}).items()}
        self._answers = answers
        self._seen: dict[str, str] = {}
        self._position = -1
        self.notes: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def _note(self, text: str, place: str) -> None:
        self.notes[text] += 1
        self.first.setdefault(text, place)

    def _text(self, value: object, place: str) -> str:
        text = str(value)
        if _SURROGATES.search(text):
            self._note("lone surrogates became U+FFFD", place)
            text = _SURROGATES.sub("\ufffd", text)
        return text

    def clean(self, record: Record) -> Question | Rejected:
        """One row in, one row out."""
        self._position += 1
        place = f"{record.file}:{record.line}"
        fields = {self._columns.get(name.lower(), name.lower()): value for name, value in record.fields.items()}
        task_id = self._task_id(fields, record, place)
        try:
            if record.fault:
                raise _FaultyError(record.fault)
            if task_id in self._seen:
                first, task_id_shown = self._seen[task_id], task_id
                task_id = None
                raise _FaultyError(f"task_id {task_id_shown} repeats the one at {first}")
            if task_id is not None:
                self._seen[task_id] = place
            return self._question(task_id or f"{PurePosixPath(record.file).name}:{record.line}", fields, record, place)
        except _FaultyError as fault:
            self._note(f"rejected: {re.sub(r'task_id .* at .*', 'repeated task_id', str(fault))}", place)
            return Rejected(task_id, self._text(fault, place), record.file, record.line, self._position)

    def _task_id(self, fields: Mapping[str, Any], record: Record, place: str) -> str | None:
        value = fields.get("task_id", fields.get("id"))
        if value is None or str(value).strip() == "":
            if not record.fault:
                self._note("rows without a task_id are named after their place", place)
            return None
        return self._text(value, place).strip()

    def _question(self, task_id: str, fields: Mapping[str, Any], record: Record, place: str) -> Question:
        parts = [fields.get("problem_description"), fields.get("question")]
        question = "\n\n".join(self._text(part, place) for part in parts if part is not None and str(part).strip())
        if not question:
            raise _FaultyError("no question text")
        listed = _choices(fields["choices"]) if "choices" in fields else _option_columns(fields)
        choices = tuple(self._text(choice, place) for choice in listed)
        if not 2 <= len(choices) <= MAX_CHOICES:
            raise _FaultyError(
                f"{len(choices)} choice{'s' * (len(choices) != 1)}, where 2 to {MAX_CHOICES} can be asked"
            )
        subject = fields.get("subject")
        return Question(
            task_id=task_id,
            subject=None if subject is None or not str(subject).strip() else self._text(subject, place).strip(),
            question=question,
            choices=choices,
            answer=self._answer(fields.get("answer"), choices, place),
            file=record.file,
            line=record.line,
            position=self._position,
        )

    def _answer(self, value: object, choices: tuple[str, ...], place: str) -> str | None:
        if value is None or str(value).strip() == "":
            return None
        names, text = letters(len(choices)), str(value)
        if self._answers == "text":
            index = choices.index(text) if choices.count(text) == 1 else None
        elif self._answers == "letter":
            match = _DRESSED_LETTER.fullmatch(text)
            if match and match[1].upper() not in names:
                self._note(f"answer {match[1].upper()} of {len(choices)} choices: unlabelled", place)
                return None
            index = names.index(match[1].upper()) if match else None
        else:
            number = int(text) if re.fullmatch(r"\s*[0-9]{1,3}\s*", text) else -1
            index = number - (self._answers == "one-based")
            index = index if 0 <= index < len(choices) else None
        if index is None:
            self._note(f"answers that are no {self._answers} of a choice: unlabelled", place)
            return None
        return names[index]
