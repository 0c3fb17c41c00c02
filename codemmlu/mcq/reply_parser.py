r"""The parser of replies: it finds the letter in free text, and never guesses: a reply without a letter is `none`.

The ways, in the order in which they are tried:

exact    the reply is a letter, or opens with a letter that is set off (`B`, `(C)`, `**B**`, `B. the choice`,
         `B because`)
boxed    `\boxed{B}`
marker   words that name the answer (`Answer: B`, `the correct option is (C)`, `D is right`, `I choose A`); the last
         such letter counts, as a model that thinks aloud may change its mind
option   the reply, or the last line of a long reply, contains the text of exactly one choice

The thoughts of a reasoning model before `</think>` do not count, nor does a further question that a model asks itself.
Every pattern takes time in proportion to the length of a reply: a model may write anything, and its actor waits. So
runs of blanks and punctuation are shortened first, and what stands before a letter is read for some characters only.
A letter that the question does not have, two letters at once (`A or B`) and a denial alone (`not A`) are no answer.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from codemmlu.schema import letters

# A Turn may also have `retry`: the letters were read because the reply gave none.
Found = Literal["exact", "boxed", "marker", "option", "none"]

_DRESS = r"[\s*_`\"'(\[{<]*+"
_UNDRESS = r"[\s*_`\"')\]}>.,:;!]*"
_LONE = re.compile(rf"{_DRESS}([A-Za-z]){_UNDRESS}")
# An opening letter counts only where something sets it off, as `A` may be an article.
_OPENS = re.compile(
    rf"{_DRESS}([A-Z])(?:[*_`\"')\]}}>]*(?:[.):,;\]]|\s*[-\u2013\u2014]\s|\s*\n|\s*$)"
    r"|[*_`\"')\]}>]*\s+(?:because|since|as it|is (?:the )?(?:correct|right|best|answer)|-))"
)
_BOXED = re.compile(r"\\boxed\s*\{\s*(?:\\(?:text|textbf|mathrm|mathbf)\s*\{)?\s*\(?\s*([A-Za-z])\s*[).]?\s*\}")
_LETTER = rf"{_DRESS}(?:(?:option|choice|letter|answer)\s+)?{_DRESS}([A-Za-z])(?![\w'\u2019+#])"
_NAMED = (
    r"(?:(?:final|correct|right|best|most appropriate|following) +)?(?:answer|option|choice|response|solution|letter)"
)
_SAYS = re.compile(
    rf"\b{_NAMED}{_UNDRESS}(?:(?:\s|to\b|here|for|this|the|question|would|should|must|be|is|are|was|=|:|\u2192|->)*)"
    rf"(?:\bis|\bbe|[:=]|\u2192|->|\*\*)\s*+(?:therefore|thus|clearly|actually|indeed|likely|definitely)?{_LETTER}",
    re.IGNORECASE,
)
_IS_RIGHT = re.compile(
    rf"{_DRESS}\b([A-Z])\b{_UNDRESS}\s*(?:is|must be|should be|would be)\s+(?:indeed |clearly |therefore |also )?"
    r"(?:the\s+)?(?:correct|right|best|answer|most appropriate)\b"
)
_CHOOSE = re.compile(
    rf"\b(?:i|we)\s*(?:would|will|'d|'ll)?\s*(?:choose|select|pick|go with|opt for|answer(?: with)?){_LETTER}",
    re.IGNORECASE,
)
_BUT = re.compile(
    rf"\bnot\s+{_DRESS}(?:option\s+)?[A-Z]\b{_UNDRESS}"
    rf"\s*,?\s*(?:but|it(?:'s| is)|rather|instead)(?:\s+rather)?{_LETTER}"
    rf"|\b(?:wait|actually)\b[\s,.:;]*(?:no\b[\s,.]*)?(?:it(?:'s| is)){_LETTER}"
)
_SO = re.compile(
    rf"\b(?i:therefore|thus|hence|so)\b,?\s*{_DRESS}(?:(?i:option|choice|answer)\s+)?{_DRESS}"
    rf"(?:([B-HJ-Z]){_UNDRESS}|([AI])[.)*!]+)\s*$"  # A reply may be cut off after `and so I`.
)
# The text after a letter takes the letter back or makes it another word: `the answer is B?`, `the response is B-tree`.
_TAKEN_BACK = re.compile(r"\s*\?|-tree\b|\s+is\s+(?:not\b|false|wrong|incorrect|invalid)")
_DENIED_AFTER = re.compile(
    r"\s*(?:is|are|was|would be|isn['\u2019]t|cannot|can['\u2019]t)\b"
    r"(?:(?!\b(?:so|but|therefore|thus|hence|because|since|as|which|that|while)\b)[^.,;:!?\n])*"
)
_TWO = re.compile(rf"{_UNDRESS}\s*(?:,|/|&|\bor\b|\band\b)\s*{_DRESS}(?:option\s+)?([A-Z])(?![\w'])")
_NEXT = re.compile(r"\n\s*(?:#+\s*|\*\*)?(?:next |new )?question\b[^\n]*:", re.IGNORECASE)
_LISTED = re.compile(rf"^{_DRESS}[A-Z][.):]", re.MULTILINE)
_CLAUSE = re.compile(r"[.,;:!?\n]|\b(?:so|but|therefore|thus|hence|because)\b", re.IGNORECASE)
# `Let's look at each option: A. ...` goes through the choices and names no answer.
_LISTS = re.compile(
    r"\b(?:each|every|all|any|which|these|those|both)(?:\s+(?:possible|given|of the|one of the))*\s*$", re.IGNORECASE
)
_IF = re.compile(r"\bif\b", re.IGNORECASE)
_GOES_ON = re.compile(
    r"[*_`\"')\]}.:,;\s]*(?:[B-Z][.):,](?:\s|$)|(?:is|are)?\s*(?:not|wrong|incorrect|false|invalid)\b)"
)
_EACH = re.compile(r"\b(?:each|every|the) (?:of the )?(?:given )?(?:options|choices|option|choice):", re.IGNORECASE)
_DENIAL = re.compile(r"\b(?:not|cannot|never|nor|neither|incorrect|wrong|false|invalid)\b|n['\u2019]t\b", re.IGNORECASE)
# Runs of blanks and punctuation, which the patterns above may share among their parts in many ways.
_RUN = re.compile(r"[\s*_`\"'()\[\]{}<>.,:;!?=#-]{17,}")
_LONGEST_REPLY = 100_000  # Characters; of a longer reply the end counts.
_LONGEST_CLAUSE = 2_000  # Characters; words that deny a letter stand nearer to it.
_SHORTEST_OPTION = 3  # Characters; a shorter text of a choice means nothing in a reply.
_SHORT_REPLY = 200  # Characters; a longer reply may well discuss the text of a choice, so only its last line counts.
_LAST_LINE = re.compile(r"(?:^|\n)([^\n]{1,300}[.!`*\"')])\s*$")


@dataclass(frozen=True)
class Reply:
    """The letter that a text gives and the way it was found, or None and `none`."""

    letter: str | None
    found: Found


def read_reply(text: str, choices: Sequence[str]) -> Reply:
    """Return the letter that a free-text reply gives; the choices are in the order shown to the model."""
    names = letters(len(choices))
    text = _final_text(text)
    if lone := _LONE.fullmatch(text):
        return _named(lone[1], names, "exact")
    if boxed := _BOXED.findall(text):
        return _named(boxed[-1], names, "boxed")
    marked = _marked(text, names)
    opening = _OPENS.match(text)
    if opening and opening[1] in names and not _TWO.match(text, opening.end(1)) and not _goes_on(text, opening.end(1)):
        # A model that goes on to name another letter has changed its mind.
        return Reply(opening[1], "exact") if marked in (None, opening[1]) else Reply(marked, "marker")
    if marked is not None:
        return Reply(marked, "marker")
    return _by_text(text, choices, names)


def _final_text(text: str) -> str:
    """Return a reply without the thoughts before it and without a question that the model asks itself."""
    if "</think>" in text:
        text = text.rpartition("</think>")[2]
    elif "<think>" in text:
        text = ""  # The model never stopped thinking.
    text = _RUN.sub(_shortened, text[-_LONGEST_REPLY:])
    asks_on = _NEXT.search(text.strip())
    return (text.strip()[: asks_on.start()] if asks_on and asks_on.start() else text).strip()


def _shortened(run: re.Match[str]) -> str:
    """Return the ends of a run of blanks and punctuation, with a line end where one lay between."""
    return f"{run[0][:12]}{chr(10) if chr(10) in run[0][12:-4] else ''}{run[0][-4:]}"


def _named(letter: str, names: str, found: Found) -> Reply:
    """Return a reply of this letter, or no answer where the question has no such letter."""
    upper = letter.upper()
    return Reply(upper, found) if upper in names else Reply(None, "none")


def _marked(text: str, names: str) -> str | None:
    """Return the last letter that words name as the answer."""
    best: tuple[int, str] | None = None
    goes_through = len(_LISTED.findall(text)) > 1
    for pattern in (_SAYS, _IS_RIGHT, _CHOOSE, _BUT, _SO):
        for match in pattern.finditer(text):
            letter = next(group for group in reversed(match.groups()) if group and len(group) == 1 and group.isalpha())
            end = match.end()
            if goes_through and _LISTED.match(_line_at(text, match.start())):
                continue  # `A) The correct answer is A. B) The correct answer is B.` names no answer.
            if letter.upper() not in names or _is_article(letter, text, end) or _TWO.match(text, end):
                continue
            if _TAKEN_BACK.match(text, end):
                continue
            if pattern is not _BUT and (
                _denied(text, match.start(), end) or _LISTS.search(_before(text, match.start()))
            ):
                continue
            if best is None or end >= best[0]:
                best = (end, letter.upper())
    return best[1] if best else None


def _is_article(letter: str, text: str, end: int) -> bool:
    """Return whether a letter is the article in `the answer is a list`, or the pronoun `I`."""
    follows = re.match(r"\s+[A-Za-z`]", text[end : end + 3]) is not None
    set_off = re.match(r"\s+(?:because|since|as|which|and|but|for|is|\()", text[end : end + 12]) is not None
    return letter in "aAI" and follows and not set_off


def _denied(text: str, start: int, end: int) -> bool:
    """Return whether the clause up to `end` is a denial or an `if`."""
    # `I don't think B is correct`, `the wrong answer is B`.
    clause = _CLAUSE.split(_before(text, start))[-1] + text[start:end]
    return _DENIAL.search(clause) is not None or _IF.search(clause) is not None


def _before(text: str, start: int) -> str:
    """Return the text before a position, as far as it can concern what follows."""
    return text[max(0, start - _LONGEST_CLAUSE) : start]


def _after(text: str, end: int) -> str:
    """Return the text after a position, as far as it can concern what stands before."""
    return text[end : end + _LONGEST_CLAUSE]


def _line_at(text: str, start: int) -> str:
    """Return the beginning of the line that a position is in."""
    line = text.rfind("\n", 0, start + 1) + 1
    return text[line : line + _LONGEST_CLAUSE]


def _by_text(text: str, choices: Sequence[str], names: str) -> Reply:
    """Return the only choice whose text the reply contains, as a reply of the way `option`."""
    if len(_LISTED.findall(text)) > 1 or _EACH.search(text):
        return Reply(None, "none")  # The reply goes through the choices.
    if len(text) > _SHORT_REPLY:
        # The last line of a long reply counts, unless the reply was cut off there or still goes through the choices.
        ends = _LAST_LINE.search(text)
        text = ends[1] if ends and not re.match(r"\s*-", ends[1]) and not _LISTED.match(ends[1]) else ""
    reply = " ".join(text.lower().split())
    if not any("none of" in choice.lower() for choice in choices):
        reply = reply.replace("none of", "")  # These words do not name a choice `None`.
    plain = [" ".join(choice.lower().split()) for choice in choices]
    matches = [i for i, choice in enumerate(plain) if len(choice) >= _SHORTEST_OPTION and _affirmed(choice, reply)]
    # Where one choice is part of another, the longest one counts.
    longest = [i for i in matches if not any(i != j and plain[i] in plain[j] for j in matches)]
    return Reply(names[longest[0]], "option") if len(longest) == 1 else Reply(None, "none")


def _goes_on(text: str, end: int) -> bool:
    """Return whether a reply goes through the letters, or denies its opening letter, which ends at `end`."""
    return len(_LISTED.findall(text)) > 1 or _GOES_ON.match(text, end) is not None


def _affirmed(choice: str, reply: str) -> bool:
    """Return whether a choice occurs in a reply as whole words, and no occurrence is denied."""
    matches = list(re.finditer(rf"(?<!\w){re.escape(choice)}(?!\w)", reply))
    return bool(matches) and not any(
        _denied(reply, match.start(), match.start()) or _denied_after(_after(reply, match.end())) for match in matches
    )


def _denied_after(rest: str) -> bool:
    """Return whether the text after a choice denies the choice: `is incorrect`."""
    clause = _DENIED_AFTER.match(rest)
    return clause is not None and _DENIAL.search(clause[0]) is not None
