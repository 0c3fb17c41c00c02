"""Verification: a generated question is read from its text alone, and its choices are run."""

import re

from codemmlu.dataset.synthetic.execution import run
from codemmlu.schema import Question, letters

GAP = "____"
_CODE = re.compile(r"```python\n(.*?)\n```", re.DOTALL)


def verify(question: Question) -> str | None:
    """Return the letter of the one choice that running proves right; None where no choice or several are."""
    programs = _CODE.findall(question.question)
    kind = (question.subject or "").rpartition("/")[2]
    if kind == "output":
        (ran,) = run(programs[:1])
        holds = [ran.error is None and choice == ran.printed.rstrip("\n") for choice in question.choices]
    elif kind == "fix":
        wanted = question.question.split("```")[-2].strip("\n")
        results = run([programs[0].replace(GAP, choice) for choice in question.choices])
        holds = [ran.error is None and ran.printed.rstrip("\n") == wanted for ran in results]
    else:
        results = run([f"{choice}\n{programs[-1]}" for choice in question.choices])
        holds = [ran.error is None for ran in results]
    names = [name for name, right in zip(letters(len(holds)), holds, strict=True) if right]
    return names[0] if len(names) == 1 else None
