"""The program in a question: its language, and its text made whole where a web page has damaged it.

Questions were copied from pages: quotes are typographic, lines are joined, `main` or an include is missing. Each
repair is a small function, and a language lists its own in REPAIRS.
"""

import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

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
    (r"#\s*include|\bprintf\s*\(|\bint\s+main\s*\(|\bvoid\s+main\s*\(|^\s*main\s*\(\s*\)\s*\{", "c"),
    (r"^\s*#!\s*/bin/(ba)?sh", "bash"),
    (r"<\?php|\becho\s+\$", "php"),
    (
        r"console\.log|document\.write|\balert\s*\(|^\s*(var|let|const)\s+\w+|\bfunction\s*\w*\s*\([^)]*\)\s*\{",
        "javascript",
    ),
    (
        r"^\s*(>>>|def\s+\w+\s*\(.*:|for\s+\w+.*\bin\b.*:|while\b.*:|if\b.*:|import\s+\w+|from\s+\w+\s+import|class\s+\w+.*:)",
        "python",
    ),
    (r"\bprint\s*\(.*\)\s*$", "python"),
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
    fence = re.search(r"```[ \t]*([\w+#]*)[ \t]*\n(.*?)\n?[ \t]*```", text, re.S)
    if fence and fence[2].strip():
        return f"{text[: fence.start()]} {fence[1]}", fence[2]
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
    ends = next((row for row, line in enumerate(lines) if re.search(r"[?:.]\s*\d*\s*$", line)), 0)
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


def _c_lines(code: str) -> str:
    """Give each directive a line of its own: joined lines stand some blanks apart."""
    code = re.sub(r"(?<=\S)[ \t]*(?=#\s*(include|define|if|ifdef|ifndef|endif|undef|pragma|else)\b)", "\n", code)
    code = re.sub(r"(#\s*include\s*(<[^>\n]*>|\"[^\"\n]*\"))[ \t]*(?=\S)", r"\1\n", code)
    code = re.sub(r"(#\s*(?:define|undef|pragma|ifdef|ifndef|if)\b[^\n]*?)[ \t]{3,}(?=\S)", r"\1\n", code)
    code = re.sub(r"(#\s*(?:endif|else))[ \t]+(?=[^\s/])", r"\1\n", code)
    code = re.sub(r"//([^\n]*?)[ \t]{3,}(?=\S)", r"//\1\n", code)
    return re.sub(r"#\s*include\s*[<\"](?:conio|windows|dos|graphics)\.h[>\"]", "", code)


_C_HEADERS = ("stdio", "stdlib", "string", "math", "unistd")
_CALL = re.compile(r"\b(?:printf|scanf|puts|strlen|strcpy|malloc|exit|putchar|getchar)\s*\(")


def _c_headers(code: str) -> str:
    missing = [head for head in _C_HEADERS if not re.search(rf"include\s*[<\"]{head}\.h", code)]
    if not re.search(r"#\s*include", code) and _CALL.search(code):
        return "".join(f"#include <{head}.h>\n" for head in missing) + code
    return code


def _c_main(code: str) -> str:
    if re.search(r"\bmain\s*\(", code) or not re.search(r";", code):
        return code
    directives = "".join(line + "\n" for line in code.splitlines() if line.lstrip().startswith("#"))
    rest = "\n".join(line for line in code.splitlines() if not line.lstrip().startswith("#"))
    return f"{directives}int main() {{\n{rest}\nreturn 0;\n}}"


def _cpp_headers(code: str) -> str:
    code = re.sub(r"#\s*include\s*<(iostream|fstream|iomanip|sstream)\.h>", r"#include <\1>", code)
    code = re.sub(r"#\s*include\s*<(string|math|stdlib|stdio|limits|time)\.h>", r"#include <c\1>", code)
    heads = "" if re.search(r"include\s*<iostream>", code) else "#include <iostream>\n"
    if not re.search(r"using\s+namespace|std::", code):
        last = list(re.finditer(r"#\s*include[^\n]*\n", code))
        at = last[-1].end() if last else 0
        code = f"{code[:at]}using namespace std;\n{code[at:]}"
    return heads + code


def _java_lines(code: str) -> str:
    return re.sub(r"//([^\n]*?)[ \t]{3,}(?=\S)", r"//\1\n", code)


def _java_main(code: str) -> str:
    if re.search(r"\b(class|interface|enum|record)\s+\w+", code):
        return code
    imports = "".join(found + "\n" for found in re.findall(r"^\s*import[^;]*;", code, re.M))
    rest = re.sub(r"^\s*import[^;]*;", "", code, flags=re.M)
    if re.search(r"\bmain\s*\(", rest):
        return f"{imports}public class Main {{\n{rest}\n}}"
    return f"{imports}public class Main {{ public static void main(String[] args) throws Exception {{\n{rest}\n}} }}"


_SHIM = (
    "globalThis.document = { write: (...x) => process.stdout.write(x.join('')), "
    "writeln: (...x) => process.stdout.write(x.join('') + '\\n') };\n"
    "globalThis.alert = (...x) => console.log(...x);\n"
)


def _js_script(code: str) -> str:
    code = re.sub(r"</?(script|html|body|head|p)\b[^>]*>", "", code, flags=re.I)
    if re.search(r"\b(document\.write|alert\s*\()", code):
        return _SHIM + code
    return code


def _js_echo(code: str) -> str:
    """Show the value of the last expression, as a console does, where nothing else is shown."""
    if re.search(r"console\.\w+|document\.write|alert\s*\(|process\.stdout", code):
        return code
    return f"console.log((0, eval)({_js_text(code)}))"


def _js_text(code: str) -> str:
    escaped = code.replace("\\", "\\\\").replace("`", "\\`").replace("${", "\\${")
    return f"`{escaped}`"


def _python_prompt(code: str) -> str:
    """Take the program out of a dialogue with the interpreter."""
    if ">>>" not in code:
        return code
    lines = [line.strip() for part in code.split(">>>")[1:] for line in part.strip("\n").splitlines()[:1] or [""]]
    if code.count("\n") > code.count(">>>"):  # Lines without a prompt go on with a block, or are output.
        lines = []
        for line in code.splitlines():
            if match := re.match(r"\s*(>>>|\.\.\.) ?(.*)", line):
                lines.append(match[2])
            elif lines and (lines[-1].rstrip().endswith(":") or line.startswith((" ", "\t"))):
                lines.append(line)
    return _echoing("\n".join(lines))


def _python_2(code: str) -> str:
    """Write the statement `print` of Python 2 as a call."""
    return re.sub(r"^([ \t]*)print[ \t]+(?![=(])([^\n#]+?)[ \t]*$", r"\1print(\2)", code, flags=re.M)


def _python_echo(code: str) -> str:
    if re.search(r"\bprint\b|sys\.stdout", code):
        return code
    return _echoing(code)


_ECHO = """
import ast, sys
_tree, _names = ast.parse({source!r}), {{"__name__": "__main__"}}
for _part in _tree.body:
    if isinstance(_part, ast.Expr):
        _value = eval(compile(ast.Expression(_part.value), "program", "eval"), _names)
        if _value is not None:
            print(repr(_value))
    else:
        exec(compile(ast.Module([_part], []), "program", "exec"), _names)
"""


def _echoing(code: str) -> str:
    return _ECHO.format(source=code)


def _shell_lines(code: str) -> str:
    """Give each command a line of its own after the line that names the shell."""
    if code.count("\n") > 1 or not code.lstrip().startswith("#!"):
        return code
    return re.sub(r"[ \t]{2,}(?=\S)", "\n", re.sub(r"(#!\s*\S+)[ \t]+", r"\1\n", code.strip()))


REPAIRS: dict[str, tuple[Callable[[str], str], ...]] = {
    "c": (_c_lines, _c_headers, _c_main),
    "c++": (_c_lines, _cpp_headers, _c_main),
    "java": (_java_lines, _java_main),
    "javascript": (_js_script, _js_echo),
    "bash": (_shell_lines,),
    "python": (_python_2, _python_prompt, _python_echo),
}
