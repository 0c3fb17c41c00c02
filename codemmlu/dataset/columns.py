"""The columns of a source: which of them hold the question, its context, the choices and the answer.

A column is found by name, in upper or lower case and with blanks or underscores alike. `questions.columns` maps other
names, and a mapped column goes before a column that has one of our names. Every column that is not used is named in a
note, because a column with a text that the question needs would otherwise be left out in silence.
"""

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from codemmlu.dataset.values import RejectedRow, is_blank, prose

# The text before the question in the Hub's fill_in_the_middle.
_OURS = "problem_description"
Field = Literal["task_id", "question", "context", "choices", "answer", "distractors", "subject"]

# Known names, the first that is filled in a row counts; of `context`, all that are filled.
NAMES: dict[Field, tuple[str, ...]] = {
    "task_id": ("task_id", "id"),
    "subject": ("subject", "subject_name", "category"),
    "question": (
        *("question", "question_stem", "question_text", "stem", "query", "prompt", "inputs", "problem", "ctx"),
        *("goal", "sentence"),
    ),
    "context": (
        *("article", "passage", "context", "premise", "code", "code_snippet", "background", "paragraph", "story"),
        _OURS,
    ),
    "choices": ("choices", "options", "endings", "answer_choices", "multiple_choice_targets", "mc1_targets"),
    "answer": (
        *("answer", "answerkey", "answer_key", "correct_answer", "correct_option", "correct", "label", "gold"),
        *("target", "targets", "cop", "answer_idx", "answer_index"),
    ),
    "distractors": ("distractors", "incorrect_answers"),
}
_OPTION = re.compile(
    r"(?!options|choices|endings)(?:(?:option|choice|ending)_?\(?([a-z]|[0-9]{1,2})\)?|op([a-h])|sol([1-9]))"
)
_DISTRACTOR = re.compile(r"(?:distractor|incorrect_answer|wrong_answer)_?[0-9]{1,2}")
# COPA writes what is asked about the premise in one word (Roemmele et al. 2011).
_COPA = {"cause": "What was the cause of this?", "effect": "What happened as a result?"}

_MOST_COLUMNS = 1024  # as in a workbook, see readers/excel_reader.py


def normalised(name: str) -> str:
    """Return a column's name in lower case with single underscores for blanks and hyphens."""
    return re.sub(r"[\s_-]+", "_", name.strip().lower())


@dataclass(frozen=True)
class ChoiceColumns:
    """The values of columns that hold one choice each."""

    columns: list[Any]


class Columns:
    """The columns of a source, and which of them have been used.

    Attributes:
        seen: The names of all columns, as the source writes them, in order.
        used: The columns that were used in at least one row, by field.
    """

    def __init__(self, mapping: Mapping[Any, str | Sequence[str]] | None = None) -> None:
        """Set the columns of `questions.columns`, by field."""
        self._mapping: dict[Field, tuple[str, ...]] = {
            field: (names,) if isinstance(names, str) else tuple(names) for field, names in (mapping or {}).items()
        }
        self.seen: dict[str, None] = {}
        self.used: dict[str, set[str]] = {}

    def row(self, fields: Mapping[str, Any]) -> "ColumnRow":
        """Return the fields of a row by column.

        Raises:
            RejectedRow: Two columns have one name, in upper and in lower case, or there are thousands.
        """
        if len(fields) > _MOST_COLUMNS:
            raise RejectedRow(f"more than {_MOST_COLUMNS:,} columns: {len(fields):,}")
        self.seen |= dict.fromkeys(fields)
        row: dict[str, Any] = {}
        lower = Counter(name.lower() for name in fields)
        for name, value in fields.items():
            key = normalised(name)
            if key in row and lower[name.lower()] > 1:
                raise RejectedRow(f"two fields of one name: {key!r}, in upper and in lower case")
            row[name.lower() if key in row else key] = value
        return ColumnRow(fields, row, self._mapping, self.used)

    def asks(self, fields: Mapping[str, Any]) -> bool:
        """Return whether a row has a column for its question."""
        names = {normalised(name) for name in fields}
        wanted = (*self._mapping.get("question", ()), *NAMES["question"], *self._mapping.get("context", ()))
        return any(normalised(name) in names for name in wanted)

    def is_known(self) -> bool:
        """Return whether any column has a known or mapped name, or there is no column at all."""
        names = {normalised(name) for name in self.seen}
        known = {name for group in NAMES.values() for name in group}
        known |= {normalised(name) for group in self._mapping.values() for name in group}
        return not names or bool(names & known)

    def by_field(self) -> dict[str, list[str]]:
        """Return the columns that are used for each field, under the names that the source gives them."""
        fields = {
            field: [name for name in self.seen if normalised(name) in names] for field, names in self.used.items()
        }
        return {field: names for field, names in sorted(fields.items()) if names}

    def unused(self) -> list[str]:
        """Return the columns that hold nothing of any question."""
        used = set().union(*self.used.values())
        return [name for name in self.seen if normalised(name) not in used]


class ColumnRow:
    """The fields of one row by column name."""

    def __init__(
        self,
        names: Iterable[str],
        row: dict[str, Any],
        mapping: Mapping[Field, tuple[str, ...]],
        used: dict[str, set[str]],
    ) -> None:
        """Keep the fields.

        Args:
            names: The names of the columns, as the source writes them.
            row: The fields by normalised column name.
            mapping: The columns of `questions.columns`.
            used: Where to note the columns that are used.
        """
        self._names, self._row, self._used = list(names), row, used
        self._mapping = {field: tuple(map(normalised, names)) for field, names in mapping.items()}
        self._mapped = {name for names in self._mapping.values() for name in names}

    def lacks(self) -> list[tuple[str, str]]:
        """Return the fields and the columns of `questions.columns` that this row does not have."""
        return [(field, name) for field, names in self._mapping.items() for name in names if name not in self._row]

    def first(self, field: Field) -> Any:
        """Return the value of the first column that is filled; None where there is none."""
        columns = self._columns(field)
        self._note(field, columns)
        return next((self._row[name] for name in columns if not is_blank(self._row[name])), None)

    def question(self) -> str:
        """Return the text of the question with its context before it.

        Raises:
            RejectedRow: There is no text, or it is a list or an object that is no text.
        """
        filled = [name for name in self._columns("question") if not is_blank(self._row[name])]
        self._note("question", filled[:1])
        question = prose(self._row[filled[0]], "the question") if filled else ""
        contexts = [name for name in self._columns("context") if not is_blank(self._row[name])]
        self._note("context", self._columns("context"))
        if question.strip().lower() in _COPA and "premise" in contexts:
            question = _COPA[question.strip().lower()]
        texts = [prose(self._row[name], f"the column {name}") for name in contexts]
        if not question and _OURS not in contexts:
            raise RejectedRow(f"no question text: its columns are {self.names}")
        # A context that the question repeats is not shown twice.
        before = [text for name, text in zip(contexts, texts, strict=True) if name == _OURS or text not in question]
        return "\n\n".join([*before, *([question] if question else [])])

    def choices(self) -> Any:
        """Return the value of the column of choices, or the columns that hold one choice each.

        Raises:
            RejectedRow: There are no choices.
        """
        mapped = [name for name in self._mapping.get("choices", ()) if name in self._row]
        if len(mapped) > 1:
            return self._separate(mapped)
        whole = [name for name in self._columns("choices") if not is_blank(self._row[name])]
        inside = self._row.get("question")
        if not whole and isinstance(inside, dict) and "choices" in inside:  # ARC as its authors published it
            return inside["choices"]
        if whole[:1] != [*mapped, "choices"][:1] and (columns := self._option_columns()):
            return self._separate(columns)
        if whole:
            self._note("choices", whole[:1])
            return self._row[whole[0]]
        if columns := self._option_columns() or self._single_letters():
            return self._separate(columns)
        if empty := [self._row[name] for name in self._columns("choices") if isinstance(self._row[name], list | tuple)]:
            return empty[0]
        raise RejectedRow(f"no choices: its columns are {self.names}")

    def distractors(self) -> list[Any]:
        """Return the wrong choices, of a source that writes the right one and the wrong ones apart."""
        columns = self._columns("distractors") or tuple(filter(_DISTRACTOR.fullmatch, self._row))
        self._note("distractors", columns)
        values = [self._row[name] for name in columns]
        if len(values) == 1 and isinstance(values[0], list | tuple):
            values = list(values[0])
        return [value for value in values if not is_blank(value)]

    @property
    def names(self) -> str:
        """Return the names of the columns, for messages."""
        names = [name.strip() for name in self._names]
        return ", ".join(names if len(names) <= 12 else [*names[:12], "..."]) or "(none)"

    def _columns(self, field: Field) -> tuple[str, ...]:
        """Return the columns that the row has for a field, mapped ones first."""
        mapped = self._mapping.get(field, ())
        names = (name for name in NAMES[field] if name not in self._mapped)
        if field == "context":
            names = (name for name in self._row if name in NAMES["context"] and name not in self._mapped)
        return tuple(name for name in (*mapped, *names) if name in self._row)

    def _separate(self, columns: list[str]) -> "ChoiceColumns":
        self._note("choices", columns)
        return ChoiceColumns([self._row[name] for name in columns])

    def _note(self, field: str, columns: Iterable[str]) -> None:
        self._used.setdefault(field, set()).update(columns)

    def _option_columns(self) -> list[str]:
        """Return the columns named as options (`option_a`, `choice_1`, `Option (A)`), by their letters or numbers.

        Raises:
            RejectedRow: The columns mix letters and numbers, name one option twice, or leave a letter out.
        """
        free = [name for name in self._row if name not in self._mapped]
        named = [(match[match.lastindex or 1], name) for name in free if (match := _OPTION.fullmatch(name))]
        if len({key.isdigit() for key, _ in named}) > 1:
            raise RejectedRow("option columns with letters and with numbers")
        ordered = sorted((int(k) if k.isdigit() else string.ascii_lowercase.index(k), name) for k, name in named)
        positions, columns = [position for position, _ in ordered], [name for _, name in ordered]
        if len(set(positions)) < len(positions):
            raise RejectedRow(f"two columns for one option: {', '.join(columns)}")
        # Beside columns A, B and D an answer D could mean the third choice or the fourth.
        if ordered and not named[0][0].isdigit() and positions[-1] >= len(positions):
            raise RejectedRow(f"option columns with a letter left out: {', '.join(columns)}")
        return columns

    def _single_letters(self) -> list[str]:
        """Return the columns A, B, ... up to the first gap, because a letter after a gap may mean something else."""
        columns = []
        for letter in string.ascii_lowercase:
            if letter not in self._row or letter in self._mapped:
                break
            columns.append(letter)
        return columns
