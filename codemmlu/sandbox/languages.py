"""The languages that can be checked and run: which tool each needs, and its commands inside the sandbox.

A command is a shell script: it finds the program in `/program/NAME`, writes below `/tmp`, and says on a line of its
own, `$COMPILED`, that the text has been accepted, before the program itself runs.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from codemmlu.sandbox.protocol import Status


def _main_file(name: str) -> Callable[[str], str]:
    return lambda source: name


def _java_file(source: str) -> str:
    """Return the file that javac wants for a source: named like its public class."""
    public = re.search(
        r"\bpublic\s+(?:(?:final|abstract|strictfp)\s+)*(?:class|interface|enum|record)\s+(\w{1,100})\b", source, re.M
    )
    return f"{public[1] if public else 'Main'}.java"


def main_class(source: str) -> str:
    """Return the name of the Java class that the method `main` of a source stands in."""
    head = re.split(r"\bstatic\s+(?:final\s+)?(?:public\s+)?void\s+main\s*\(", source, maxsplit=1)[0]
    classes = re.findall(r"\b(?:class|interface|enum|record)\s+(\w{1,100})\b", head)
    # The class before `main` may be nested in another one, or stand beside it; the outer one is the likelier.
    public = re.search(r"\bpublic\s+(?:final\s+)?class\s+(\w{1,100})\b", head)
    return public[1] if public else classes[-1] if classes else "Main"


@dataclass(frozen=True)
class Language:
    """One language.

    Attributes:
        tools: The programs that have to be there; the first one names the version.
        check: The shell script that compiles or parses the file `$1`, with its output in `/tmp`.
        run: The shell script that runs what `check` has left.
        file: Returns the name of the file of a source.
        address_space: Whether the address space may be limited: virtual machines reserve far more than they use.
        version: The option with which the first tool says its version.
        diagnosis: What the messages of a compiler say that has found a fault in the text; a compiler that ends without
            it was ended by something else.
    """

    tools: tuple[str, ...]
    check: str
    run: str
    file: Callable[[str], str]
    address_space: bool = True
    version: str = "--version"
    diagnosis: str = r"\b[Ee]rror\b"

    def refusal(self, messages: str) -> Status:
        """Return what it means that the check of a program has failed with these messages."""
        if _SHORTAGE.search(messages) or not re.search(self.diagnosis, messages, re.M):
            return "unsupported"
        return "compile_error"


# What a compiler says where the machine or a limit ended it, and not a fault of the text.
_SHORTAGE = re.compile(
    r"internal compiler error|fatal error: (Killed|cannot execute|vfork)|signal terminated program|resource limits|"
    r"Resource temporarily|Cannot (allocate|fork)|[Oo]ut of memory|OutOfMemory|No space left|File size limit|"
    r"virtual memory"
)
# A fault that gcc names has a file and a line, or comes from the linker.
_GCC = r"^\S+:\d+:.*[Ee]rror:|undefined reference|multiple definition|ld returned"


# No profile, no annotation processors, one thread where there is a choice.
_JAVA = "-Xmx192m -Xss8m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -XX:-UsePerfData"
_JAVAC = "-J" + _JAVA.replace(" ", " -J") + " -proc:none -nowarn -encoding UTF-8 -d /tmp/classes"

_PARSE = "import sys; compile(open(sys.argv[1], encoding='utf-8').read(), sys.argv[1], 'exec')"

LANGUAGES = {
    "c": Language(
        ("gcc",),
        'gcc -std=gnu17 -w -O0 -o /tmp/a.out "$1" -lm',
        "exec /tmp/a.out",
        _main_file("main.c"),
        diagnosis=_GCC,
    ),
    "c++": Language(
        ("g++",),
        'g++ -std=gnu++17 -w -O0 -o /tmp/a.out "$1"',
        "exec /tmp/a.out",
        _main_file("main.cpp"),
        diagnosis=_GCC,
    ),
    "java": Language(
        ("javac", "java"),
        f'javac {_JAVAC} "$1"',
        f'exec java {_JAVA} -cp /tmp/classes "$2"',
        _java_file,
        False,
        "-version",
    ),
    "javascript": Language(
        ("node",),
        'node --check "$1"',
        'exec node --max-old-space-size=192 "$1"',
        _main_file("main.js"),
        False,
        diagnosis="SyntaxError",
    ),
    "python": Language(
        ("python",),
        f'python -I -S -c "{_PARSE}" "$1"',
        'exec python -I -X utf8 "$1"',
        _main_file("main.py"),
        diagnosis=r"\w+Error: ",
    ),
    "php": Language(("php",), 'php -n -l "$1"', 'exec php -n "$1"', _main_file("main.php"), diagnosis="(?i)error"),
    "ruby": Language(("ruby",), 'ruby -c "$1"', 'exec ruby "$1"', _main_file("main.rb"), diagnosis="(?i)error"),
    "perl": Language(("perl",), 'perl -c "$1"', 'exec perl "$1"', _main_file("main.pl"), diagnosis="syntax|error"),
    "bash": Language(
        ("bash",), 'bash --norc -n "$1"', 'exec bash --norc "$1"', _main_file("main.sh"), diagnosis=r"line \d+:"
    ),
}


_LOG = 8_000  # bytes of a compiler's messages


def script(language: Language, action: str) -> str:
    """Return the shell script of a language for one action; `$1` is the file, `$2` Java's main class."""
    failed = f"{{ head -c {_LOG} /tmp/log >&2; exit 1; }}"
    compiling = f"mkdir -p /tmp/classes; ( {language.check} ) >/tmp/log 2>&1 </dev/null || {failed}"
    marked = f"{compiling}\nprintf '%s\\n' \"$COMPILED\" >&2; unset COMPILED\n"
    return marked + (language.run if action == "run" else "exit 0")


@cache
def version(language: str) -> str | None:
    """Return the first line that a language's tool says of its version; None where a tool is missing."""
    entry = LANGUAGES[language]
    if language == "python":
        return f"Python {sys.version.split()[0]}"
    if not all(shutil.which(tool) for tool in entry.tools):
        return None
    said = subprocess.run([entry.tools[0], entry.version], capture_output=True, text=True, timeout=60, check=False)
    lines = (said.stdout + said.stderr).strip().splitlines()
    return lines[0] if lines else entry.tools[0]
