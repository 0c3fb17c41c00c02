"""The base of numbered answers: files that count from one and are read as if they counted from zero, and vice versa.

Read with the wrong base, every label is one off. Answers that reach the number of choices but never 0 count from one,
and answers with a 0 that never reach the number of choices count from zero.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from codemmlu.dataset.answers import OUT_OF_BASE, AnswerForm
from codemmlu.schema import Question, Rejected, letters

# Labelled rows to look at: in so many rows that count from zero, a 0 is as good as certain.
_LOOK = 10_000


def check_base(
    rows: Iterator[Question | Rejected], form: AnswerForm, notes: Counter[str], first: dict[str, str]
) -> Iterator[Question | Rejected]:
    """Hold rows back until their answers show the base, and take the labels of rows that were read with the wrong one.

    Args:
        rows: The cleaned rows.
        form: The form in which answers were read.
        notes: The notes of cleaning; an answer that is out of range is one of them.
        first: The location of the first row of each note.

    Yields:
        The rows in their order.
    """
    if form not in ("zero-based", "one-based"):
        yield from rows
        return
    other = "one-based" if form == "zero-based" else "zero-based"
    held: list[Question | Rejected] = []
    labelled, is_open = 0, True
    for row in rows:
        held.append(row)
        if isinstance(row, Question) and row.answer:
            labelled += 1
            # Only this base has this label.
            sure = row.answer == ("A" if form == "zero-based" else letters(len(row.choices))[-1])
            if sure or labelled == _LOOK:
                is_open = not sure
                break
    if is_open and labelled:
        beyond = notes[OUT_OF_BASE[form]]
        note = f"answers of which none is {'0' if form == 'zero-based' else 'the number of choices'}"
        what = "no label is used" if beyond else "labels are used as they are"
        advice = f"{note}: {what}; if the file counts the other way, set {{section}}.answers={other}"
        notes[advice] += labelled
        first.setdefault(advice, f"{held[0].file}:{held[0].line}")
        if beyond:
            held = [replace(row, answer=None) if isinstance(row, Question) else row for row in held]
            rows = (replace(row, answer=None) if isinstance(row, Question) else row for row in rows)
    yield from held
    yield from rows
