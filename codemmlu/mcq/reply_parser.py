"""Replies: free text to a letter, with the way it was found. Nothing is guessed: what says no letter is `none`.

In this order:

exact    the reply is a letter, or opens with one that is set off (`B`, `(C)`, `**B**`, `B. the choice`, `B because`)
boxed    `\\boxed{B}`
marker   words that name the answer (`Answer: B`, `the correct option is (C)`, `D is right`, `I choose A`); of several
         the last one counts, as a model that thinks aloud may change its mind
option   the reply, or the last line of a long one, has the text of exactly one choice in it

What a reasoning model thought before `</think>` does not count, nor what a model goes on to ask itself. A letter that
the question does not have, two letters at once (`A or B`) and a denial alone (`not A`) are no answer.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from codemmlu.schema import letters

Found = Literal["exact", "boxed", "marker", "option", "none"]  # a Turn may say `retry` besides: the letters were read

_DRESS = r"[\s*_`\"'(\[{<]*"
_UNDRESS = r"[\s*_`\"')\]}>.,:;!]*"
_LONE = re.compile(rf"{_DRESS}([A-Za-z]){_UNDRESS}")
# An opening letter counts when something sets it off: `A` may be an article.
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
    rf"(?:\bis|\bbe|[:=]|\u2192|->|\*\*)\s*(?:therefore|thus|clearly|actually|indeed|likely|definitely)?{_LETTER}",
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
    rf"(?:([B-HJ-Z]){_UNDRESS}|([AI])[.)*!]+)\s*$"  # `and so I` may be cut off
)
# What follows takes it back, or makes another word of it: `the answer is B?`, `the response is B-tree`.
_TAKEN_BACK = re.compile(r"\s*\?|-tree\b|\s+is\s+(?:not\b|false|wrong|incorrect|invalid)")
_DENIED_AFTER = re.compile(
    r"\s*(?:is|are|was|would be|isn['\u2019]t|cannot|can['\u2019]t)\b"
    r"(?:(?!\b(?:so|but|therefore|thus|hence|because|since|as|which|that|while)\b)[^.,;:!?\n])*"
)
_TWO = re.compile(rf"{_UNDRESS}\s*(?:,|/|&|\bor\b|\band\b)\s*{_DRESS}(?:option\s+)?([A-Z])(?![\w'])")
_NEXT = re.compile(r"\n\s*(?:#+\s*|\*\*)?(?:next |new )?question\b[^\n]*:", re.IGNORECASE)
_LISTED = re.compile(rf"^{_DRESS}[A-Z][.):]", re.MULTILINE)
_CLAUSE = re.compile(r"[.,;:!?\n]|\b(?:so|but|therefore|thus|hence|because)\b", re.IGNORECASE)
# `Let's look at each option: A. ...` goes through the choices and names none.
_LISTS = re.compile(
    r"\b(?:each|every|all|any|which|these|those|both)(?:\s+(?:possible|given|of the|one of the))*\s*$", re.IGNORECASE
)
_IF = re.compile(r"\bif\b", re.IGNORECASE)
_GOES_ON = re.compile(
    r"[*_`\"')\]}.:,;\s]*(?:[B-Z][.):,](?:\s|$)|(?:is|are)?\s*(?:not|wrong|incorrect|false|invalid)\b)"
)
_EACH = re.compile(r"\b(?:each|every|the) (?:of the )?(?:given )?(?:options|choices|option|choice):", re.IGNORECASE)
_DENIAL = re.compile(r"\b(?:not|cannot|never|nor|neither|incorrect|wrong|false|invalid)\b|n['\u2019]t\b", re.IGNORECASE)
_SHORTEST_OPTION = 3  # characters of a choice whose text in a reply means anything
_SHORT_REPLY = 200  # characters: in a longer one, which may well speak of a choice's text, the last line counts
_LAST_LINE = re.compile(r"(?:^|\n)([^\n]{1,300}[.!`*\"')])\s*$")


@dataclass(frozen=True)
class Reply:
    """What a text says: a letter and the way it was found, or None and `none`."""

    letter: str | None
    found: Found


def read_reply(text: str, choices: Sequence[str]) -> Reply:
    """The letter that a free-text reply gives for a question with these choices, as they were shown."""
    names = letters(len(choices))
    said = _said(text)
    if lone := _LONE.fullmatch(said):
        return _named(lone[1], names, "exact")
    if boxed := _BOXED.findall(said):
        return _named(boxed[-1], names, "boxed")
    marked = _marked(said, names)
    opening = _OPENS.match(said)
    if opening and opening[1] in names and not _TWO.match(said, opening.end(1)) and not _goes_on(said, opening.end(1)):
        # Who goes on to name another one has changed their mind.
        return Reply(opening[1], "exact") if marked in (None, opening[1]) else Reply(marked, "marker")
    if marked is not None:
        return Reply(marked, "marker")
    return _by_text(said, choices, names)


def _said(text: str) -> str:
    """Without what was thought before, and without the next question a model asks itself."""
    if "</think>" in text:
        text = text.rpartition("</think>")[2]
    elif "<think>" in text:
        text = ""  # it never stopped thinking
    asks_on = _NEXT.search(text.strip())
    return (text.strip()[: asks_on.start()] if asks_on and asks_on.start() else text).strip()


def _named(letter: str, names: str, found: Found) -> Reply:
    upper = letter.upper()
    return Reply(upper, found) if upper in names else Reply(None, "none")


def _marked(said: str, names: str) -> str | None:
    """The last letter that words name as the answer."""
    best: tuple[int, str] | None = None
    goes_through = len(_LISTED.findall(said)) > 1
    for pattern in (_SAYS, _IS_RIGHT, _CHOOSE, _BUT, _SO):
        for match in pattern.finditer(said):
            letter = next(group for group in reversed(match.groups()) if group and len(group) == 1 and group.isalpha())
            place = match.end()
            if goes_through and _LISTED.match(said[said.rfind("\n", 0, match.start() + 1) + 1 :]):
                continue  # `A) The correct answer is A. B) The correct answer is B.` answers nothing
            if letter.upper() not in names or _is_article(letter, said, place) or _TWO.match(said, place):
                continue
            if _TAKEN_BACK.match(said, place):
                continue
            if pattern is not _BUT and (_denied(said, match.start(), place) or _LISTS.search(said[: match.start()])):
                continue
            if best is None or place >= best[0]:
                best = (place, letter.upper())
    return best[1] if best else None


def _is_article(letter: str, said: str, place: int) -> bool:
    """`a` or `A` before a word is no answer: `the answer is a list`. Nor is `I` the pronoun."""
    follows = re.match(r"\s+[A-Za-z`]", said[place : place + 3]) is not None
    set_off = re.match(r"\s+(?:because|since|as|which|and|but|for|is|\()", said[place : place + 12]) is not None
    return letter in "aAI" and follows and not set_off


def _denied(said: str, start: int, end: int) -> bool:
    """Whether the clause up to here denies what it names: `I don't think B is correct`, `the wrong answer is B`."""
    clause = _CLAUSE.split(said[:start])[-1] + said[start:end]
    return _DENIAL.search(clause) is not None or _IF.search(clause) is not None


def _by_text(said: str, choices: Sequence[str], names: str) -> Reply:
    """The one choice whose text the reply has; of choices inside one another the longest.

    Of a long reply its last line counts, unless it was cut off there or still goes through the choices.
    """
    if len(_LISTED.findall(said)) > 1 or _EACH.search(said):
        return Reply(None, "none")  # it goes through the choices
    if len(said) > _SHORT_REPLY:
        ends = _LAST_LINE.search(said)
        said = ends[1] if ends and not re.match(r"\s*-", ends[1]) and not _LISTED.match(ends[1]) else ""
    heard = " ".join(said.lower().split())
    if not any("none of" in choice.lower() for choice in choices):
        heard = heard.replace("none of", "")  # a choice `None` is not what that says
    plain = [" ".join(choice.lower().split()) for choice in choices]
    there = [i for i, text in enumerate(plain) if len(text) >= _SHORTEST_OPTION and _affirmed(text, heard)]
    longest = [i for i in there if not any(i != j and plain[i] in plain[j] for j in there)]
    return Reply(names[longest[0]], "option") if len(longest) == 1 else Reply(None, "none")


def _goes_on(said: str, place: int) -> bool:
    """Whether what opens with a letter is no answer: it goes through the letters, or denies the one it opens with."""
    return len(_LISTED.findall(said)) > 1 or _GOES_ON.match(said, place) is not None


def _affirmed(text: str, heard: str) -> bool:
    """Whether a text stands in another as words of its own, and is not denied there."""
    places = list(re.finditer(rf"(?<!\w){re.escape(text)}(?!\w)", heard))
    return bool(places) and not any(
        _denied(heard, place.start(), place.start()) or _denied_after(heard[place.end() :]) for place in places
    )


def _denied_after(rest: str) -> bool:
    """Whether what is said of something denies it: `is incorrect`."""
    clause = _DENIED_AFTER.match(rest)
    return clause is not None and _DENIAL.search(clause[0]) is not None
