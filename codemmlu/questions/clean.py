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

import ast
import io
import itertools
import json
import re
import string
import tokenize
import warnings
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import Any, Literal

from codemmlu.questions.readers import Record
from codemmlu.rows import MAX_CHOICES, Question, Rejected, letters

AnswerForm = Literal["letter", "zero-based", "one-based", "text"]
_NAMES = {"letter": "letter", "zero-based": "zero-based number", "one-based": "one-based number", "text": "text"}

_DRESSED_LETTER = re.compile(
    r"""[\s*_`"']*
        (?:(?:the\s+)?(?:correct\s+)?(?:answer|ans|option|choice)\b(?:\s+is\b)?[\s:=*\-]*)?
        [\s*_`"'(\[]*([A-Za-z])[\s*_`"')\].:]*""",
    re.IGNORECASE | re.VERBOSE,
)
_OPTION_COLUMN = re.compile(r"(?!options|choices)(?:option|choice)[ _]?([a-z]|[0-9]{1,2})")
_STRINGS_SIDE_BY_SIDE = re.compile(r"""['"]\s*[rRbBuUfF]{0,2}['"]""")  # or one that is empty
_LONGEST_ANSWER = 100  # characters; what is longer is no letter, and costs the pattern above quadratic time
_NUMBER = re.compile(r"\s*([0-9]{1,3})(?:\.0)?\s*")  # pandas writes an index beside a missing one as 2.0
_SURROGATES = re.compile("[\ud800-\udfff]")


class _FaultyError(Exception):
    """Why a record cannot be asked, written `kind` or `kind: details`; the notes count kinds."""


def dressed_letter(text: str) -> str | None:
    """The letter that a text is, however it is dressed (`ANSWER: **B**`); None of what says more, or no letter."""
    match = _DRESSED_LETTER.fullmatch(text) if len(text.strip()) <= _LONGEST_ANSWER else None
    return match[1].upper() if match else None


def plain(value: object) -> str:
    """A field's value as text; true and false as JSON has them."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _is_blank(value: object) -> bool:
    return not plain(value).strip()


def _read_json(text: str) -> object:
    return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)


def _read_python(text: str) -> object:
    """A literal's value; of a list all but strings and None as they are written there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about an escape such as \d in somebody's choice
        written = ast.parse(text, mode="eval").body
        value = ast.literal_eval(written)
    if not isinstance(written, ast.List | ast.Tuple):
        return value
    if _STRINGS_SIDE_BY_SIDE.search(text) and _joins_strings(text):
        raise _FaultyError("choices lack a comma between two strings")
    read = zip(written.elts, value, strict=True)
    return [ast.get_source_segment(text, node) if isinstance(item, _NUMBERS) else item for node, item in read]


_NUMBERS = (bool, int, float, complex)


def _joins_strings(text: str) -> bool:
    """Whether two strings stand side by side, which Python takes for one: numpy prints its arrays so."""
    kinds = [token.type for token in tokenize.generate_tokens(io.StringIO(text).readline)]
    kinds = [kind for kind in kinds if kind != tokenize.NL]
    return any(pair == (tokenize.STRING, tokenize.STRING) for pair in itertools.pairwise(kinds))


def _choices(value: object) -> list[str]:
    """The choices of a list, or of a string that writes one; read as a literal, never evaluated."""
    if isinstance(value, str | bytes):
        value = _parsed(plain(value).strip())
    if not isinstance(value, list | tuple):
        raise _FaultyError("no choices" if value is None else f"choices are not a list but {type(value).__name__}")
    if any(isinstance(item, list | tuple | dict | set) for item in value):
        raise _FaultyError("choices hold a list inside the list")
    return [plain(item) for item in value]


def _parsed(text: str) -> object:
    """The value that a string writes, None for an empty one. JSON first: Python reads JSON's escape of one emoji as
    two lone surrogates."""
    if not text:
        return None
    for parse in (_read_json, _read_python):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError):
            continue
    raise _FaultyError("choices cannot be read as a list")


def _listed(fields: Mapping[str, Any]) -> list[str]:
    """A row's choices, wherever they stand."""
    if "choices" in fields:
        return _choices(fields["choices"])
    columns = _option_columns(fields)
    if not columns and "options" in fields:
        return _choices(fields["options"])
    columns = columns or list(itertools.takewhile(fields.__contains__, string.ascii_lowercase))
    if not columns:
        raise _FaultyError("no choices")
    texts = [plain(fields[name]) for name in columns]
    while texts and not texts[-1]:
        texts.pop()
    if "" in texts:
        raise _FaultyError("an empty option column before a filled one")
    return texts


def _option_columns(fields: Mapping[str, Any]) -> list[str]:
    """The columns that say that they are options (`option_a`, `choice_1`), in the order of their letters or numbers.

    They count before single letters, and of those the run from A on: a letter after a gap may well mean something else.
    """
    named = [(match[1], name) for name in fields if (match := _OPTION_COLUMN.fullmatch(name))]
    if len({key.isdigit() for key, _ in named}) > 1:
        raise _FaultyError("option columns with letters and with numbers")
    at = sorted((int(key) if key.isdigit() else string.ascii_lowercase.index(key), name) for key, name in named)
    places, columns = [place for place, _ in at], [name for _, name in at]
    if len(set(places)) < len(places):
        raise _FaultyError(f"two columns for one option: {', '.join(columns)}")
    if at and not named[0][0].isdigit() and places[-1] >= len(places):  # is an answer D the third or the fourth?
        raise _FaultyError(f"option columns with a letter left out: {', '.join(columns)}")
    return columns


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
                raise _FaultyError(record.fault)
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
                raise _FaultyError(f"repeated task_id: {name} stands at {self._seen[name]} already")
            self._seen[name] = place
            task_id = own
            return self._question(name, subject, fields, record)
        except _FaultyError as fault:
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
            raise _FaultyError(f"two fields of one name: {twice!r}, in upper and in lower case")
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
            raise _FaultyError("no question text")
        choices = tuple(self._text(choice, place) for choice in _listed(fields))
        if not 2 <= len(choices) <= MAX_CHOICES:
            raise _FaultyError(
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
            letter = dressed_letter(text)
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
