"""The generator: seeded questions of three kinds, whose choices all come from running programs.

output      What does this program print? Distractors are the outputs of mutated programs.
fix         Which line in the gap makes the program print this? Distractors are mutations of the line.
completion  Which function passes these tests? Distractors are mutated functions that fail a test.
"""

import ast
from collections.abc import Callable, Sequence
from random import Random

from codemmlu.dataset.synthetic.execution import run
from codemmlu.dataset.synthetic.mutate import mutations
from codemmlu.dataset.synthetic.programs import FUNCTIONS, PROGRAMS, Defined
from codemmlu.dataset.synthetic.verification import GAP, verify
from codemmlu.errors import UserError
from codemmlu.recipe import digest
from codemmlu.schema import Question, letters

SUBJECT = "synthesised"
_CHOICES = 4
_LONGEST = 160  # characters of an output that may be a choice
# The kinds of programs count as used up after _TRIES * len(PROGRAMS) programs in a row without a new question.
_TRIES = 20

Drawn = tuple[str, str, list[str]]  # the question's text, the right choice, the distractors


def generate(n: int, seed: int) -> list[Question]:
    """Return n different, verified questions, which are the same for the same seed.

    The kinds of questions, the kinds of programs and the right letters are balanced.

    Raises:
        UserError: The kinds of programs do not suffice for so many questions.
    """
    random = Random(f"synthesis {seed}")
    questions: list[Question] = []
    seen: set[str] = set()
    kinds = list(KINDS)
    fruitless = 0
    while len(questions) < n:
        kind = kinds[len(questions) % len(kinds)]
        drawn = KINDS[kind](random, len(questions) // len(kinds))
        question = _question(kind, drawn, len(questions), random) if drawn and drawn[0] not in seen else None
        if question is None or verify(question) != question.answer:
            fruitless += 1
            if fruitless > _TRIES * len(PROGRAMS):
                raise UserError(
                    f"of {n:,} questions only {len(questions):,} can be made; lower it", key="finetune.synthesise"
                )
            continue
        seen.add(question.question)
        questions.append(question)
        fruitless = 0
    return questions


def _question(kind: str, drawn: Drawn, number: int, random: Random) -> Question | None:
    """Return a question with shuffled distractors; None where there are too few distractors."""
    text, right, wrong = drawn
    others = [choice for choice in dict.fromkeys(wrong) if choice != right]
    if len(others) < _CHOICES - 1:
        return None
    choices = random.sample(others, _CHOICES - 1)
    # The kinds take turns, so the right letter moves on after one question of each kind.
    position = number // len(KINDS) % _CHOICES
    choices.insert(position, right)
    name = f"{SUBJECT}/{digest(text, choices)[:16]}"
    return Question(
        name, f"{SUBJECT}/{kind}", text, tuple(choices), letters(_CHOICES)[position], SUBJECT, number + 1, number
    )


def _program(random: Random, turn: int) -> str:
    """Return a program of the kind whose turn it is, or half the time of a random kind."""
    makers: list[Callable[[Random], str | Defined]] = [*PROGRAMS, *FUNCTIONS]
    make = makers[(turn + random.randrange(len(makers)) * (random.random() < 0.5)) % len(makers)]
    source: str | Defined = make(random)
    return source.program if isinstance(source, Defined) else source


def _output(random: Random, turn: int) -> Drawn | None:
    source = _program(random, turn)
    others = _sample(mutations(source), random, 12)
    first, *rest = run([source, *others])
    right = first.printed.rstrip("\n")
    if first.error or not right or len(right) > _LONGEST:
        return None
    wrong = [ran.printed.rstrip("\n") for ran in rest if ran.error is None]
    text = f"What does this Python program print?\n\n```python\n{source}\n```"
    return text, right, [printed for printed in wrong if printed and len(printed) <= _LONGEST]


def _fix(random: Random, turn: int) -> Drawn | None:
    source = ast.unparse(ast.parse(_program(random, turn)))
    lines = source.splitlines()
    changed: dict[int, list[str]] = {}
    for other in mutations(source):
        mutated = other.splitlines()
        differing = [row for row, pair in enumerate(zip(lines, mutated, strict=False)) if pair[0] != pair[1]]
        if len(mutated) == len(lines) and len(differing) == 1:
            changed.setdefault(differing[0], []).append(mutated[differing[0]])
    rows = [row for row, variants in changed.items() if len(variants) >= _CHOICES - 1]
    if not rows:
        return None
    row = random.choice(rows)
    tried = _sample(changed[row], random, 12)
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
    function = FUNCTIONS[(turn + random.randrange(len(FUNCTIONS)) * (random.random() < 0.5)) % len(FUNCTIONS)](random)
    source = ast.unparse(ast.parse(function.source))
    results = run([f"{function.source}\nprint(repr({function.name}({call})))" for call in function.calls])
    if any(ran.error for ran in results):
        return None
    tests = "\n".join(
        f"assert {function.name}({call}) == {ran.printed.strip()}"
        for call, ran in zip(function.calls, results, strict=True)
    )
    others = _sample(mutations(source), random, 12)
    tested = run([f"{other}\n{tests}" for other in others])
    wrong = [other for other, ran in zip(others, tested, strict=True) if ran.error]
    text = f"Which definition of `{function.name}` passes these tests?\n\n```python\n{tests}\n```"
    return text, source, wrong


def _sample(items: Sequence[str], random: Random, most: int) -> list[str]:
    return random.sample(list(items), min(most, len(items)))


KINDS = {"output": _output, "fix": _fix, "completion": _completion}
