"""Repairs: what a program lacks that was copied from a page, by language.

Lines are joined, `main` or an include is missing, a console shows values by itself. Each repair is a small function,
and a language lists its own in REPAIRS.
"""

import re
from collections.abc import Callable

# Patterns take linear time at most, as those of `dataset/kind`: parts without an end of their own are bounded.
_COMMENT = re.compile(r"//([^\n]{0,200}?)[ \t]{3,}(?=\S)")
_IMPORT = re.compile(r"^[ \t]*import\b[^;]{0,300};", re.M)
_PRINT = re.compile(r"^([ \t]*)print[ \t]+(?![=(])([^\n#]+)$", re.M)


def _without_ends(code: str) -> str:
    """Return a program without blanks at the ends of lines."""
    return "\n".join(line.rstrip() for line in code.split("\n"))


def _c_lines(code: str) -> str:
    """Give each directive a line of its own: joined lines stand some blanks apart."""
    code = _without_ends(code)
    code = re.sub(r"(?<=\S)[ \t]*(?=#\s*(include|define|if|ifdef|ifndef|endif|undef|pragma|else)\b)", "\n", code)
    code = re.sub(r"(#\s*include\s*(<[^>\n]{0,200}>|\"[^\"\n]{0,200}\"))[ \t]*(?=\S)", r"\1\n", code)
    code = re.sub(r"(#\s*(?:define|undef|pragma|ifdef|ifndef|if)\b[^\n]{0,400}?)[ \t]{3,}(?=\S)", r"\1\n", code)
    code = re.sub(r"(#\s*(?:endif|else))[ \t]+(?=[^\s/])", r"\1\n", code)
    code = re.sub(_COMMENT, r"//\1\n", code)
    return re.sub(r"#\s*include\s*[<\"](?:conio|windows|dos|graphics)\.h[>\"]", "", code)


_C_HEADERS = ("stdio", "stdlib", "string", "math", "unistd")
_CALL = re.compile(r"\b(?:printf|scanf|puts|strlen|strcpy|malloc|exit|putchar|getchar)\s*\(")


def _c_headers(code: str) -> str:
    missing = [head for head in _C_HEADERS if not re.search(rf"include\s*[<\"]{head}\.h", code)]
    if not re.search(r"#\s*include", code) and _CALL.search(code):
        return "".join(f"#include <{head}.h>\n" for head in missing) + code
    return code


# Functions of other C libraries that questions use as if they were everywhere.
_SHIMS = {
    "strrev": "static char *strrev(char *s) { for (int i = 0, j = strlen(s) - 1; i < j; i++, j--) "
    "{ char c = s[i]; s[i] = s[j]; s[j] = c; } return s; }\n",
    "clrscr": "#define clrscr()\n",
    "getch": "#define getch() getchar()\n",
}


def _c_shims(code: str) -> str:
    """Define the functions that a program calls and the C library does not have."""
    lacking = [name for name in _SHIMS if re.search(rf"\b{name}\s*\(", code) and not _defines(code, name)]
    heads = "#include <stdio.h>\n#include <string.h>\n" if lacking else ""
    return heads + "".join(_SHIMS[name] for name in lacking) + code


def _defines(code: str, name: str) -> bool:
    return re.search(rf"\b(?:char|void|int)\b[\s*]*{name}\s*\([^;]{{0,200}}?\)\s*\{{", code) is not None


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
        last = list(re.finditer(r"#\s*include[^\n]{0,300}\n", code))
        at = last[-1].end() if last else 0
        code = f"{code[:at]}using namespace std;\n{code[at:]}"
    return heads + code


def _java_lines(code: str) -> str:
    return re.sub(_COMMENT, r"//\1\n", _without_ends(code))


def _java_main(code: str) -> str:
    if re.search(r"\b(class|interface|enum|record)\s+\w+", code):
        return code
    imports = "".join(found + "\n" for found in re.findall(_IMPORT, code))
    rest = re.sub(_IMPORT, "", code)
    if re.search(r"\bmain\s*\(", rest):
        return f"{imports}public class Main {{\n{rest}\n}}"
    return f"{imports}public class Main {{ public static void main(String[] args) throws Exception {{\n{rest}\n}} }}"


_SHIM = (
    "globalThis.document = { write: (...x) => process.stdout.write(x.join('')), "
    "writeln: (...x) => process.stdout.write(x.join('') + '\\n') };\n"
    "globalThis.alert = (...x) => console.log(...x);\n"
)


def _js_script(code: str) -> str:
    code = re.sub(r"</?(script|html|body|head|p)\b[^>]{0,500}>", "", code, flags=re.I)
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
    return _PRINT.sub(lambda found: f"{found[1]}print({found[2].rstrip()})", code)


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
    return re.sub(r"[ \t]{2,}(?=\S)", "\n", re.sub(r"(#!\s*\S+)[ \t]+", r"\1\n", _without_ends(code.strip())))


REPAIRS: dict[str, tuple[Callable[[str], str], ...]] = {
    "c": (_c_lines, _c_headers, _c_shims, _c_main),
    "c++": (_c_lines, _cpp_headers, _c_main),
    "java": (_java_lines, _java_main),
    "javascript": (_js_script, _js_echo),
    "bash": (_shell_lines,),
    "python": (_python_2, _python_prompt, _python_echo),
}
