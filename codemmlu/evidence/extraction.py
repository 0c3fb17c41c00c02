"""The program in a question: its language, and its text made whole where a web page has damaged it.

Questions were copied from pages: quotes are typographic, lines are joined. `repairs` adds what a program lacks.
"""

import re
import textwrap
from dataclasses import dataclass

from codemmlu.evidence.repairs import REPAIRS
from codemmlu.schema import Question

_QUOTES = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "\u00a0": " ", "\u2009": " ", "–": "-", "−": "-"})
# What the sentence before the program calls its language; None: a language that is known and not run.
_NAMED: tuple[tuple[str, str | None], ...] = (
    (r"C\+\+|\bcpp\b", "c++"),
    (r"\bC ?#|C-?sharp|\.NET|\bVB\b", None),
    (r"javascript|\bnode(\.js)?\b|\bJS\b|jquery|react|typescript|angular", "javascript"),
    (r"\bjava\b|\bJSP\b|servlet", "java"),
    (r"\bpython\b|\bnumpy\b|\bpandas\b", "python"),
    (r"\bphp\b", "php"),
    (r"\bruby\b", "ruby"),
    (r"\bperl\b", "perl"),
    (r"\b(R|matlab|octave|go|golang|rust|swift|kotlin|scala|haskell|sql|awk|css|html|sass|objective-c)\b", None),
    (r"\b(bash|shell)\b", "bash"),
    (r"\bC\b(?!\+)", "c"),
)
# What only programs of one language have.
_MARKS: tuple[tuple[str, str | None], ...] = (
    (
        r"#\s*include\s*<\s*(iostream(\.h)?|vector|string|algorithm|map)\s*>|\bcout\s*<<|using\s+namespace\s+std|\bstd::",
        "c++",
    ),
    (r"Console\.Write|using\s+System\s*;|\bDim\s+\w+\s+As\b", None),
    (r"System\.out\.|public\s+static\s+void\s+main|public\s+class\b", "java"),
    (r"#\s*include|\bprintf\s*\(|\bint\s+main\s*\(|\bvoid\s+main\s*\(|^[ \t]*main\s*\(\s*\)\s*\{", "c"),
    (r"^[ \t]*#!\s*/bin/(ba)?sh", "bash"),
    (r"<\?php|\becho\s+\$", "php"),
    (
        r"console\.log|document\.write|\balert\s*\(|^[ \t]*(var|let|const)\s+\w+|"
        r"\bfunction\b\s*(?:\w+\s*)?\([^)]{0,300}\)\s*\{",
        "javascript",
    ),
    (
        r"^[ \t]*(>>>|def\s+\w+\s*\(.*:|for\s+\w+\b.{0,200}?\bin\b.{0,200}:|while\b.*:|if\b.*:|import\s+\w+|"
        r"from\s+\w+\s+import|class\s+\w+\b.*:)",
        "python",
    ),
    (r"\bprint\s*\(.{0,400}\)[ \t]*$", "python"),
)


@dataclass(frozen=True)
class Extracted:
    """A program as it can be run.

    Attributes:
        language: A name in `sandbox.languages.LANGUAGES`.
        source: The text.
        repaired: Whether something was added that the question does not show: a main, an echo of the last value.
    """

    language: str
    source: str
    repaired: bool = False


def plain(text: str) -> str:
    """Return a text with the quotes, blanks and line ends of a program."""
    return text.translate(_QUOTES).replace("\r\n", "\n").replace("\r", "\n")


def extract(question: Question) -> list[Extracted]:
    """Return the program that a question asks about, as it may have been before a page damaged it.

    Args:
        question: The question.

    Returns:
        The readings of the program, the most faithful one first; none where there is no program that could be run.
    """
    head, code = _parted(re.sub(r"\A\s*Question\s*:\s*", "", plain(question.question)))
    language = language_of(head, code)
    if language is None or not code.strip():
        return []
    code = textwrap.dedent(_entities(code)).strip("\n")
    readings = []
    for text in dict.fromkeys((code, _unquoted(code))):
        whole = text
        for repair in REPAIRS.get(language, ()):
            whole = repair(whole)
        readings.append(Extracted(language, whole + "\n", whole != code))
    return readings


def language_of(head: str, code: str) -> str | None:
    """Return the language of a program: as the sentence before it says, else by what only that language has."""
    for patterns, text, flags in ((_NAMED, head, re.I), (_MARKS, code, re.M)):
        for pattern, language in patterns:
            # The names of one letter are words of other meaning in small letters.
            if re.search(pattern, text, 0 if len(pattern) < 12 and r"\bC" in pattern else flags):
                if language == "c" and re.search(_MARKS[0][0], code):
                    return "c++"
                return language
    return None


def _parted(text: str) -> tuple[str, str]:
    """Return the sentence before a program, and the program."""
    fence = re.search(r"```[ \t]*(?:([\w+#]+)[ \t]*)?\n(.*?)```", text, re.S)
    if fence and fence[2].strip():
        return f"{text[: fence.start()]} {fence[1] or ''}", fence[2].rstrip(" \t").removesuffix("\n")
    bare = re.split(r"```", text)
    if len(bare) > 1 and bare[0].strip() and re.search(r"#\s*include|\{|\(", bare[0]):
        text, tail = bare[0], " " + bare[-1].strip()
    else:
        tail = ""
    lines = text.strip("\n").splitlines()
    for row, line in enumerate(lines):
        if re.match(
            r"\s*(#\s*include|#\s*define|import\s+[\w.*]+;|(public\s+)?(final\s+|abstract\s+)?class\s+\w+|>>>|<\?php)",
            line,
        ):
            return "\n".join(lines[:row]) + tail, "\n".join(lines[row:])
    ends = next((row for row, line in enumerate(lines) if re.search(r"[?:.]\s*(?:\d+\s*)?$", line)), 0)
    return "\n".join(lines[: ends + 1]) + tail, "\n".join(lines[ends + 1 :])


def _entities(code: str) -> str:
    code = re.sub(r"<br\s*/?>", "", code).replace("\\\\n", "\\n")
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        code = code.replace(entity, character)
    return code


def _unquoted(code: str) -> str:
    """Undo the escapes of a text that was quoted once too often."""
    code = re.sub(r"\\([\"'])", r"\1", code).replace('""', '"')
    return re.sub(r"include\s*<\s*([\w/]+)\s*\.\s*h?\s*>?", r"include <\1.h>", code)
