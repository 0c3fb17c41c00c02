"""The kind of a question, by written rules from the form of its text: part of no key and of no schema.

knowledge           a question about facts; also whatever no rule knows
output              what a program prints, or what else becomes of it
fill_in_the_middle  which lines belong in a gap of a program
defect              with which outcome a program ends
completion          which body a function has
repair              which change mends a program
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from codemmlu.schema import Question

KINDS = ("knowledge", "output", "fill_in_the_middle", "defect", "completion", "repair")

# The outcomes of a judge that runs programs, as the choices of `defect` name them.
OUTCOMES = {
    "compile": re.compile(r"compil\w*[\s-]*(time)?\s*error|does not compile", re.I),
    "runtime": re.compile(r"run[\s-]*time\s*error", re.I),
    "internal": re.compile(r"internal\s*error|system\s*error", re.I),
    "time": re.compile(r"time\s*limit\s*exceeded", re.I),
    "memory": re.compile(r"memory\s*limit\s*exceeded", re.I),
    "output": re.compile(r"output\s*limit\s*exceeded", re.I),
    "normal": re.compile(r"no\s*abnormal|no\s*error|accepted|runs?\s*normally", re.I),
}
# Patterns meet whatever a file holds, so none of them may take more than linear time: no two repetitions that can match
# the same characters follow each other, and what has no end of its own has a greatest length.
GAP = re.compile(r"^[ \t]*_{5,}[ \t]*(?:;[ \t]*)?$", re.M)
_MOST = 65_536  # characters of a question and its choices: longer ones are no form that is known here
_REPAIR = re.compile(r"^\s*(modify|change|replace|insert|delete|remove)\s+lines?\s+\d+", re.I)
_PRINTS = re.compile(
    r"\b(outputs?|prints?|printed|displays?|displayed|returns?|returned|evaluates? to|value of|values of|"
    r"happens? when|result of|will this|this program)\b",
    re.I,
)
_ASKS = re.compile(
    r"\boutput\b.{0,60}\b(code|program|snippet|script|expressions?|function|statements?|commands?)\b|"
    r"\b(code|program|snippet|script|statement)s?\b.{0,40}\b(prints?|outputs?|displays?)\b|"
    r"\bresult of\b.{0,40}\b(code|program)",
    re.I | re.S,
)
_BARE = re.compile(r"\A\s*(?:Question:\s*)?(#\s*include|public class|class \w+ ?\{)|``````\w*\s*\Z")
_CODE = re.compile(
    r"#\s*include\b|\bint\s+main\s*\(|\bvoid\s+main\s*\(|\bprintf\s*\(|\bcout\s*<<|\bpublic\s+(static|class)\b|\bclass\s+\w+\s*\{|"
    r"System\.out|^[ \t]*(>>>|def\s+\w+\s*\(|for\s+\w+\s+in\b|while\s+[^\n]{0,200}:[ \t]*$)|"
    r"\bprint\s*\(|\bconsole\.log\b|\bdocument\.write|"
    r"^[ \t]*(var|let|const)\s+\w+|\bfunction\b\s*(\w+\s*)?\(|```|\$\w+\s*=|\becho\b|^[ \t]*\w+[ \t]*=\s*[^=\s]|"
    r"\bSELECT\b.{0,400}\bFROM\b",
    re.M | re.S,
)


def outcome_of(choice: str) -> str | None:
    """Return the name of the outcome that a short choice names; None where it names none."""
    if len(choice) > 60:
        return None
    return next((name for name, pattern in OUTCOMES.items() if pattern.search(choice)), None)


def _is_defect(question: Question) -> bool:
    named = [outcome_of(choice) for choice in question.choices]
    return len(named) > 1 and all(named) and len(set(named)) == len(named)


def _is_completion(question: Question) -> bool:
    text = question.question.rstrip()
    return text.endswith(('"""', "'''")) and re.search(r"^[ \t]*(async\s+)?def\s+\w+\s*\(", text, re.M) is not None


def _is_output(question: Question) -> bool:
    lines = question.question.strip().splitlines() or [""]
    first, last = "\n".join(lines[:2])[:300], lines[-1][-200:]
    if _ASKS.search(first) or _BARE.search(question.question):
        return True
    asked = _PRINTS.search(first) or _PRINTS.search(last)
    return bool(asked and len(lines) > 1 and _CODE.search(question.question))


def _is_gap(question: Question) -> bool:
    return bool(
        GAP.search(question.question) and re.search(r"missing|incomplete|complete|fill", question.question, re.I)
    )


def _is_repair(question: Question) -> bool:
    changes = sum(_REPAIR.search(choice) is not None for choice in question.choices)
    return changes * 2 > len(question.choices)


# In order: the first rule that holds names the kind.
RULES: dict[str, Callable[[Question], bool]] = {
    "defect": _is_defect,
    "fill_in_the_middle": _is_gap,
    "repair": _is_repair,
    "completion": _is_completion,
    "output": _is_output,
}


def kind_of(question: Question) -> str:
    """Return the kind of a question, one of KINDS."""
    if len(question.question) + sum(map(len, question.choices)) > _MOST:
        return "knowledge"
    return next((kind for kind, rule in RULES.items() if rule(question)), "knowledge")


@dataclass(frozen=True)
class KindRules:
    """The rules above, and before them patterns of a recipe, for its tables and weights.

    Patterns are RE2's, which takes linear time whatever they are. What probes look at does not depend on them.

    Attributes:
        patterns: The names of kinds with the pattern that the text of a question of the kind holds, in order.
    """

    patterns: tuple[tuple[str, str], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all kinds: the recipe's own, then KINDS."""
        return (*dict(self.patterns), *KINDS)

    def kind_of(self, question: Question) -> str:
        """Return the first kind of the recipe whose pattern a question holds, or else one of KINDS."""
        text = pa.array([question.question] if self.patterns else [], pa.string())
        for name, pattern in self.patterns:
            if pc.match_substring_regex(text, pattern)[0].as_py():
                return name
        return kind_of(question)


# The rules of a recipe without patterns.
BUILT_IN = KindRules()
