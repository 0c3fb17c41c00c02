"""The generator: seeded questions of three kinds, whose right choice and distractors all come from real runs.

output      what does this program print? Distractors are what mutated programs print.
fix         which line in the gap makes it print this? Distractors are the line as mutations leave it.
completion  which function passes these tests? Distractors are mutated functions that fail one.
"""

import ast
from collections.abc import Callable, Sequence
from random import Random

from codemmlu.dataset.synthetic.mutate import mutations
from codemmlu.dataset.synthetic.programs import FUNCTIONS, PROGRAMS, Defined
from codemmlu.dataset.synthetic.sandbox import run
from codemmlu.dataset.synthetic.verification import GAP, verify
from codemmlu.errors import UserError
from codemmlu.recipe import digest
from codemmlu.schema import Question, letters

SUBJECT = "synthesised"
_CHOICES = 4
_LONGEST = 160  # characters of an output that may be a choice
_TRIES = 20  # programs in a row that gave no new question: the shapes are used up

Drawn = tuple[str, str, list[str]]  # the question's text, the right choice, the distractors


def generate(n: int, seed: int) -> list[Question]:
    """n different questions, proved; kinds, shapes and right letters are balanced. The same for the same seed.

    Raises UserError where the shapes do not hold so many.
    """
    random = Random(f"synthesis {seed}")
    found: list[Question] = []
    seen: set[str] = set()
    kinds = list(KINDS)
    fruitless = 0
    while len(found) < n:
        kind = kinds[len(found) % len(kinds)]
        drawn = KINDS[kind](random, len(found) // len(kinds))
        question = _question(kind, drawn, len(found), random) if drawn and drawn[0] not in seen else None
        if question is None or verify(question) != question.answer:
            fruitless += 1
            if fruitless > _TRIES * len(PROGRAMS):
                raise UserError(f"finetune.synthesise: of {n:,} questions only {len(found):,} can be made; lower it")
            continue
        seen.add(question.question)
        found.append(question)
        fruitless = 0
    return found


def _question(kind: str, drawn: Drawn, number: int, random: Random) -> Question | None:
    text, right, wrong = drawn
    others = [choice for choice in dict.fromkeys(wrong) if choice != right]
    if len(others) < _CHOICES - 1:
        return None
    choices = random.sample(others, _CHOICES - 1)
    # Kinds come in turn: the letter moves on once all of them were there.
    place = number // len(KINDS) % _CHOICES
    choices.insert(place, right)
    name = f"{SUBJECT}/{digest(text, choices)[:16]}"
    return Question(
        name, f"{SUBJECT}/{kind}", text, tuple(choices), letters(_CHOICES)[place], SUBJECT, number + 1, number
    )


def _programs(random: Random, turn: int) -> str:
    shapes: list[Callable[[Random], str | Defined]] = [*PROGRAMS, *FUNCTIONS]
    shape = shapes[(turn + random.randrange(len(shapes)) * (random.random() < 0.5)) % len(shapes)]
    made: str | Defined = shape(random)
    return made.program if isinstance(made, Defined) else made


def _output(random: Random, turn: int) -> Drawn | None:
    source = _programs(random, turn)
    others = _some(mutations(source), random, 12)
    first, *rest = run([source, *others])
    right = first.printed.rstrip("\n")
    if first.error or not right or len(right) > _LONGEST:
        return None
    wrong = [one.printed.rstrip("\n") for one in rest if one.error is None]
    text = f"What does this Python program print?\n\n```python\n{source}\n```"
    return text, right, [one for one in wrong if one and len(one) <= _LONGEST]


def _fix(random: Random, turn: int) -> Drawn | None:
    source = ast.unparse(ast.parse(_programs(random, turn)))
    lines = source.splitlines()
    changed: dict[int, list[str]] = {}
    for other in mutations(source):
        its = other.splitlines()
        where = [row for row, pair in enumerate(zip(lines, its, strict=False)) if pair[0] != pair[1]]
        if len(its) == len(lines) and len(where) == 1:
            changed.setdefault(where[0], []).append(its[where[0]])
    rows = [row for row, its in changed.items() if len(its) >= _CHOICES - 1]
    if not rows:
        return None
    row = random.choice(rows)
    tried = _some(changed[row], random, 12)
    first, *rest = run([source, *("\n".join([*lines[:row], line, *lines[row + 1 :]]) for line in tried)])
    if first.error or not first.printed.strip() or len(first.printed) > _LONGEST:
        return None
    wrong = [line.strip() for line, ran in zip(tried, rest, strict=True) if ran != first]
    indent = lines[row][: len(lines[row]) - len(lines[row].lstrip())]
    shown = "\n".join([*lines[:row], indent + GAP, *lines[row + 1 :]])
    wanted = first.printed.rstrip("\n")
    text = (
        f"A line of this Python program is missing:\n\n```python\n{shown}\n```\n\n"
        f"With which line in place of {GAP} does it print this?\n\n```\n{wanted}\n```"
    )
    return text, lines[row].strip(), wrong


def _completion(random: Random, turn: int) -> Drawn | None:
    made = FUNCTIONS[(turn + random.randrange(len(FUNCTIONS)) * (random.random() < 0.5)) % len(FUNCTIONS)](random)
    source = ast.unparse(ast.parse(made.source))
    told = run([f"{made.source}\nprint(repr({made.name}({call})))" for call in made.calls])
    if any(one.error for one in told):
        return None
    tests = "\n".join(
        f"assert {made.name}({call}) == {one.printed.strip()}" for call, one in zip(made.calls, told, strict=True)
    )
    others = _some(mutations(source), random, 12)
    wrong = [other for other, ran in zip(others, run([f"{one}\n{tests}" for one in others]), strict=True) if ran.error]
    text = f"Which definition of `{made.name}` passes these tests?\n\n```python\n{tests}\n```"
    return text, source, wrong


def _some(items: Sequence[str], random: Random, most: int) -> list[str]:
    return random.sample(list(items), min(most, len(items)))


KINDS = {"output": _output, "fix": _fix, "completion": _completion}
