"""The kinds of programs: each function draws the text of a program, or of a function with calls."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from textwrap import dedent

_WORDS = (
    "banana",
    "level",
    "python",
    "queue",
    "stack",
    "mirror",
    "pepper",
    "index",
    "letter",
    "parser",
    "cache",
    "binary",
)
_NAMES = ("data", "items", "values", "nums", "xs", "seq")


@dataclass(frozen=True)
class Defined:
    """A drawn function.

    Attributes:
        source: The definition.
        name: The name of the function.
        calls: The arguments of calls that show what the function does.
    """

    source: str
    name: str
    calls: tuple[str, ...]

    @property
    def program(self) -> str:
        """A program that prints the results of the first two calls."""
        return self.source + "\n" + "\n".join(f"print({self.name}({call}))" for call in self.calls[:2])


def _numbers(r: Random, n: int = 0, low: int = -4, high: int = 12) -> list[int]:
    return [r.randint(low, high) for _ in range(n or r.randint(4, 7))]


def _accumulate(r: Random) -> str:
    name, step = r.choice(_NAMES), r.randint(2, 3)
    return dedent(f"""\
        {name} = {_numbers(r)}
        total = {r.randint(0, 3)}
        for i, x in enumerate({name}):
            if i % {step} == {r.randint(0, step - 1)}:
                total += x
            else:
                total -= {r.randint(1, 3)}
        print(total)""")


def _slices(r: Random) -> str:
    name = r.choice(_NAMES)
    a, b, s = r.randint(-6, 3), r.randint(2, 8), r.choice((-2, -1, 2, 3))
    return f"{name} = {list(range(r.randint(0, 3), r.randint(9, 13)))}\nprint({name}[{a}:{b}], {name}[::{s}])"


def _text_slices(r: Random) -> str:
    word = r.choice(_WORDS)
    return f"word = {word!r}\nprint(word[{r.randint(0, 3)}:{r.randint(-2, 5)}] + word[::{r.choice((-1, 2, -2))}])"


def _counting(r: Random) -> str:
    return dedent(f"""\
        counts = {{}}
        for letter in {r.choice(_WORDS)!r}:
            counts[letter] = counts.get(letter, {r.randint(0, 1)}) + {r.randint(1, 2)}
        print(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:{r.randint(2, 3)}])""")


def _closures(r: Random) -> str:
    bound = r.choice(("lambda x: x * i", "lambda x, i=i: x * i", "lambda x: x + i", "lambda x, i=i: x - i"))
    return dedent(f"""\
        functions = []
        for i in range({r.randint(2, 4)}):
            functions.append({bound})
        print([f({r.randint(2, 6)}) for f in functions])""")


def _default_argument(r: Random) -> str:
    first, second, third = (r.randint(1, 9) for _ in range(3))
    given = r.choice(("", f", [{third}]"))
    return dedent(f"""\
        def add(item, bucket=[]):
            bucket.append(item * {r.randint(1, 3)})
            return bucket

        add({first})
        add({second}{given})
        print(add({third}), len(add({first}, [])))""")


def _aliases(r: Random) -> str:
    copied = r.choice(("a", "a[:]", "list(a)", "[row for row in a]"))
    return dedent(f"""\
        a = [[{r.randint(1, 5)}, {r.randint(1, 5)}], [{r.randint(1, 5)}]]
        b = {copied}
        b[0].append({r.randint(6, 9)})
        b.append([{r.randint(1, 5)}])
        print(a, len(b))""")


def _exceptions(r: Random) -> str:
    bad = r.choice(("int('x')", "[][1]", "{}['k']", "1 // 0", "7 // 2"))
    return dedent(f"""\
        def attempt():
            steps = []
            try:
                steps.append({r.randint(1, 3)})
                {bad}
                steps.append({r.randint(4, 6)})
            except {r.choice(("ValueError", "LookupError", "ArithmeticError"))}:
                steps.append({r.randint(7, 9)})
            except Exception:
                steps.append(0)
            else:
                steps.append(-1)
            finally:
                steps.append(len(steps))
            return steps

        print(attempt())""")


def _inheritance(r: Random) -> str:
    return dedent(f"""\
        class Base:
            size = {r.randint(1, 4)}

            def area(self):
                return self.size * {r.randint(2, 4)}

        class Child(Base):
            def __init__(self):
                self.size += {r.randint(1, 5)}

            def area(self):
                return super().area() - {r.randint(1, 3)}

        child = Child()
        Base.size = {r.randint(5, 9)}
        print(child.area(), Base().area())""")


def _generators(r: Random) -> str:
    return dedent(f"""\
        def steps(n):
            while n > {r.randint(0, 2)}:
                n -= {r.randint(1, 3)}
                yield n * {r.randint(1, 3)}

        g = steps({r.randint(7, 12)})
        next(g)
        print(sum(g), list(g))""")


def _loop_else(r: Random) -> str:
    return dedent(f"""\
        for x in {_numbers(r, 5, 1, 12)}:
            if x % {r.randint(3, 5)} == 0:
                continue
            if x > {r.randint(7, 11)}:
                print("big", x)
                break
        else:
            x = -1
        print(x)""")


def _sets(r: Random) -> str:
    sign = r.choice("|&-^")
    return f"a = set({_numbers(r, 6, 0, 7)})\nb = set({_numbers(r, 5, 0, 7)})\nprint(sorted(a {sign} b), a <= b)"


def _sorting(r: Random) -> str:
    key = r.choice(("len", "lambda w: w[-1]", "lambda w: (len(w), w)", "lambda w: w[1:]"))
    words = r.sample(_WORDS, 5)
    return (
        f"words = {words}\nwords.sort(key={key}, reverse={r.choice((True, False))})\nprint(words[:{r.randint(2, 3)}])"
    )


def _comprehension(r: Random) -> str:
    return dedent(f"""\
        grid = [[x * y for x in range({r.randint(2, 4)})] for y in range({r.randint(2, 4)})]
        flat = [v for row in grid for v in row if v {r.choice(("%", "//"))} {r.randint(2, 3)} == {r.randint(0, 1)}]
        print(flat, sum(map(len, grid)))""")


def _unpacking(r: Random) -> str:
    return f"first, *middle, last = {_numbers(r, 6)}\nmiddle[{r.randint(0, 2)}] = first\nprint(middle, last - first)"


def _division(r: Random) -> str:
    a, b = r.choice((-1, 1)) * r.randint(5, 29), r.choice((-1, 1)) * r.randint(2, 7)
    return f"a, b = {a}, {b}\nprint(a // b, a % b, abs(a) // abs(b) * {r.randint(1, 3)})"


def _short_circuit(r: Random) -> str:
    values = [r.choice(("0", "''", "[]", "None", str(r.randint(1, 9)), repr(r.choice(_WORDS)))) for _ in range(4)]
    return f"print({values[0]} or {values[1]}, {values[2]} and {values[3]}, not {values[0]} or {values[2]})"


def _nonlocal(r: Random) -> str:
    return dedent(f"""\
        def counter(start):
            def step(by={r.randint(1, 3)}):
                nonlocal start
                start += by
                return start
            return step

        one, two = counter({r.randint(0, 5)}), counter({r.randint(0, 5)})
        one()
        one({r.randint(2, 6)})
        print(one(), two())""")


def _bits(r: Random) -> str:
    said = f"n & {r.randint(3, 15)}, n >> {r.randint(1, 3)}, n ^ {r.randint(1, 15)}, bin(n).count('1')"
    return f"n = {r.randint(9, 60)}\nprint({said})"


def _format(r: Random) -> str:
    value = r.randint(1000, 99999) / r.choice((8, 16, 3))
    spec = r.choice((".2f", ",.1f", "10.1f", "<9.0f", "+.3f"))
    return f"value = {value!r}\nprint(f'[{{value:{spec}}}]', f'{{{r.randint(5, 99)}:04d}}')"


def _deque(r: Random) -> str:
    return dedent(f"""\
        from collections import deque
        line = deque({_numbers(r, 5, 1, 9)}, maxlen={r.randint(4, 6)})
        line.append({r.randint(10, 15)})
        line.rotate({r.choice((-2, -1, 1, 2))})
        line.appendleft({r.randint(16, 20)})
        print(list(line))""")


def _zipped(r: Random) -> str:
    return dedent(f"""\
        keys = {sorted(r.sample("abcdefgh", 4))}
        table = dict(zip(keys, {_numbers(r, r.randint(3, 5), 1, 9)}))
        table.pop({r.choice("abch")!r}, None)
        print({{v: k for k, v in table.items() if v > {r.randint(1, 5)}}})""")


PROGRAMS: tuple[Callable[[Random], str], ...] = (
    _accumulate,
    _slices,
    _text_slices,
    _counting,
    _closures,
    _default_argument,
    _aliases,
    _exceptions,
    _inheritance,
    _generators,
    _loop_else,
    _sets,
    _sorting,
    _comprehension,
    _unpacking,
    _division,
    _short_circuit,
    _nonlocal,
    _bits,
    _format,
    _deque,
    _zipped,
)


def _clamp(r: Random) -> Defined:
    low, high = r.randint(0, 3), r.randint(6, 9)
    source = dedent(f"""\
        def clamp(x, low={low}, high={high}):
            if x < low:
                return low
            if x > high:
                return high
            return x""")
    return Defined(source, "clamp", (str(low - 1), str(high + 1), str(low), str((low + high) // 2)))


def _gcd(r: Random) -> Defined:
    source = "def gcd(a, b):\n    while b:\n        a, b = b, a % b\n    return a"
    k = r.randint(2, 9)
    return Defined(source, "gcd", (f"{k * 6}, {k * 4}", f"{k}, 0", f"{k * 5}, {k * 7}", "13, 8"))


def _search(r: Random) -> Defined:
    source = dedent("""\
        def search(items, wanted):
            low, high = 0, len(items) - 1
            while low <= high:
                middle = (low + high) // 2
                if items[middle] == wanted:
                    return middle
                if items[middle] < wanted:
                    low = middle + 1
                else:
                    high = middle - 1
            return -1""")
    items = sorted(r.sample(range(30), 6))
    return Defined(
        source, "search", (f"{items}, {items[-1]}", f"{items}, {items[1]}", f"{items}, 31", f"{items}, {items[0]}")
    )


def _runs(r: Random) -> Defined:
    source = dedent("""\
        def runs(text):
            result = []
            for letter in text:
                if result and result[-1][0] == letter:
                    result[-1][1] += 1
                else:
                    result.append([letter, 1])
            return result""")
    text = "".join(r.choice("abc") * r.randint(1, 3) for _ in range(4))
    return Defined(source, "runs", (repr(text), repr(text[::-1]), "''", "'aab'"))


def _primes(r: Random) -> Defined:
    source = dedent("""\
        def primes(limit):
            found = []
            for n in range(2, limit):
                if all(n % p != 0 for p in found):
                    found.append(n)
            return found""")
    n = r.randint(12, 30)
    return Defined(source, "primes", (str(n), "2", "12", str(n + 7)))


def _flatten(r: Random) -> Defined:
    source = dedent("""\
        def flatten(tree, depth=0):
            if not isinstance(tree, list):
                return [tree * (depth + 1)]
            result = []
            for branch in tree:
                result += flatten(branch, depth + 1)
            return result""")
    a, b, c = (r.randint(1, 9) for _ in range(3))
    return Defined(source, "flatten", (f"[{a}, [{b}, [{c}]]]", "[]", f"[[{a}], {b}]", f"{c}"))


def _balanced(r: Random) -> Defined:
    source = dedent("""\
        def balanced(text):
            depth = 0
            for sign in text:
                if sign == '(':
                    depth += 1
                elif sign == ')':
                    depth -= 1
                    if depth < 0:
                        return False
            return depth == 0""")
    return Defined(source, "balanced", ("'(())()'", "')('", "'(()'", repr("(" * r.randint(1, 3) + ")" * 2)))


def _rotate(r: Random) -> Defined:
    source = "def rotate(items, by):\n    by %= len(items)\n    return items[-by:] + items[:-by]"
    items = _numbers(r, 5, 1, 9)
    return Defined(source, "rotate", (f"{items}, {r.randint(1, 3)}", f"{items}, -1", f"{items}, 5", f"{items}, 7"))


def _fibonacci(r: Random) -> Defined:
    a, b = r.randint(0, 2), r.randint(1, 3)
    source = f"def series(n):\n    a, b = {a}, {b}\n    for _ in range(n):\n        a, b = b, a + b\n    return a"
    return Defined(source, "series", (str(r.randint(5, 8)), "0", "1", "4"))


def _digits(r: Random) -> Defined:
    base = r.randint(2, 9)
    source = dedent(f"""\
        def digits(n):
            result = ''
            while n > 0:
                result = str(n % {base}) + result
                n //= {base}
            return result or '0'""")
    return Defined(source, "digits", (str(r.randint(20, 99)), "0", str(base), str(base * base + 1)))


def _merged(r: Random) -> Defined:
    source = dedent("""\
        def merge(a, b):
            result = []
            while a and b:
                if a[0] <= b[0]:
                    result.append(a[0])
                    a = a[1:]
                else:
                    result.append(b[0])
                    b = b[1:]
            return result + a + b""")
    a, b = sorted(_numbers(r, 3, 0, 9)), sorted(_numbers(r, 3, 0, 9))
    return Defined(source, "merge", (f"{a}, {b}", f"[], {b}", f"{b}, {a[:1]}", "[1, 3], [2]"))


def _transposed(r: Random) -> Defined:
    source = "def transpose(rows):\n    return [[row[i] for row in rows] for i in range(len(rows[0]))]"
    a, b = _numbers(r, 3, 0, 9), _numbers(r, 3, 0, 9)
    return Defined(source, "transpose", (f"[{a}, {b}]", f"[{a}]", f"[{a[:2]}, {b[:2]}]", f"[{b}, {a}, {b}]"))


FUNCTIONS: tuple[Callable[[Random], Defined], ...] = (
    _clamp,
    _gcd,
    _search,
    _runs,
    _primes,
    _flatten,
    _balanced,
    _rotate,
    _fibonacci,
    _digits,
    _merged,
    _transposed,
)
