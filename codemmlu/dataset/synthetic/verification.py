"""Proof: a generated question is read as a person reads it, and what its choices say is run."""

import re

from codemmlu.dataset.synthetic.sandbox import run
from codemmlu.schema import Question, letters

GAP = "____"
_CODE = re.compile(r"```python\n(.*?)\n```", re.DOTALL)


def verify(question: Question) -> str | None:
    """The letter of the one choice that running proves right; None where it is none, or more than one."""
    programs = _CODE.findall(question.question)
    kind = (question.subject or "").rpartition("/")[2]
    if kind == "output":
        (ran,) = run(programs[:1])
        holds = [ran.error is None and choice == ran.printed.rstrip("\n") for choice in question.choices]
    elif kind == "fix":
        wanted = question.question.split("```")[-2].strip("\n")
        ran_all = run([programs[0].replace(GAP, choice) for choice in question.choices])
        holds = [one.error is None and one.printed.rstrip("\n") == wanted for one in ran_all]
    else:
        ran_all = run([f"{choice}\n{programs[-1]}" for choice in question.choices])
        holds = [one.error is None for one in ran_all]
    names = [name for name, right in zip(letters(len(holds)), holds, strict=True) if right]
    return names[0] if len(names) == 1 else None
