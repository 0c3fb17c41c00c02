"""The report's list of questions: each with every voter's answer, the answer's turns, and the verdict.

Questions and texts of models are untrusted and of any length: long text is cut, and says so.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, NotRequired, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from codemmlu.dataset.stored import stored_questions
from codemmlu.inference.answer_store import stored_answers
from codemmlu.inference.voters import Ensemble
from codemmlu.mcq import render
from codemmlu.recipe import ModelVoter
from codemmlu.run_dir import RunDir
from codemmlu.schema import Answer, Question, Verdict, letters

# The most questions that the page lists; the run directory has all of them.
MOST = 10_000
# The most characters that the page shows of a question, of a choice, and of a text that a model wrote or was shown.
_QUESTION, _CHOICE, _SAID = 6_000, 1_000, 2_000
_NEIGHBOURS = 5
_BUDGET = 30_000_000  # the most characters of all turns together
_DIGITS = 3
_NOTHING = -99.0


class ListedTurn(TypedDict):
    """A turn, as the page's script reads it.

    Attributes:
        k: The kind.
        l: The letter.
        p: The probability that a check gives to TRUE.
        x: The text.
        f: How the letter was found.
    """

    k: str
    l: str | None  # noqa: E741
    p: float | None
    x: str
    f: str


class ListedVoter(TypedDict):
    """A vote, as the page's script reads it; a key without a value is left out.

    Attributes:
        st: The status.
        l: The letter.
        p: The probabilities.
        t: The turns of the answer.
        r: The order of the choices and the log-probabilities of each of several readings.
        n: The task_id and the similarity of the nearest examples.
        e: The error.
    """

    st: str
    l: str | None  # noqa: E741
    p: list[float]
    t: NotRequired[list[ListedTurn]]
    r: NotRequired[list[tuple[str, list[float]]]]
    n: NotRequired[list[tuple[str, float]]]
    e: NotRequired[str]


class ListedQuestion(TypedDict):
    """A question, as the page's script reads it.

    Attributes:
        id: The task_id.
        s: The subject.
        q: The text.
        c: The choices.
        a: The right letter.
        l: The letter of the verdict.
        p: The probabilities of the verdict.
        v: The votes, in the order of the voters.
    """

    id: str
    s: str | None
    q: str
    c: list[str]
    a: str | None
    l: str | None  # noqa: E741
    p: list[float]
    v: list[ListedVoter]


class FirstPrompt(TypedDict):
    """The prompt that a voter's model is given for a question first.

    Attributes:
        voter: The voter.
        ask: Its inference spec.
        method: Its method.
        text: The messages, before the chat template.
    """

    voter: str
    ask: str
    method: str
    text: str


class _Cast(NamedTuple):
    """The columns of a vote that the page shows."""

    status: str
    letter: str | None
    probabilities: Sequence[float]


def details(
    run: RunDir, ensemble: Ensemble, names: Sequence[str], verdicts: Iterator[Verdict], votes: list[str]
) -> list[ListedQuestion]:
    """Return the first MOST questions, as the page's script reads them.

    Args:
        run: The run directory.
        ensemble: All voters of the run.
        names: The voters in the order of the page.
        verdicts: On all questions, in the order of the file.
        votes: The files of the votes.

    Returns:
        One row per question, in the order of the file.
    """
    first = {verdict.task_id: verdict for verdict in islice(verdicts, MOST)}
    last = max((verdict.position for verdict in first.values()), default=-1)
    asked = {q.task_id: q for q in stored_questions(run) if q.task_id in first}
    cast = _votes(run, votes, last)
    answers = _answers(run, ensemble, list(asked.values()))
    listed, spent = [], 0
    for task_id, verdict in first.items():
        # Answers are left out, turns and all, once the page would become too large to open.
        shown = {name: answers.get((name, task_id)) if spent < _BUDGET else None for name in names}
        spent += sum(len(turn.text[:_SAID]) + 100 for answer in shown.values() if answer for turn in answer.turns)
        voters = [_voter(cast[name, task_id], shown[name]) for name in names]
        listed.append(_question(asked[task_id], verdict, voters))
    return listed


def prompts(ensemble: Ensemble, question: Question) -> list[FirstPrompt]:
    """Return the prompt that each voter's model is given for a question first, before the chat template."""
    texts: list[FirstPrompt] = []
    for name, voter in ensemble.voters.items():
        if not isinstance(voter.settings, ModelVoter):
            continue
        prompt = render(question, voter.spec.template)
        shown = "\n\n".join(message.content for message in prompt.messages)
        texts.append(
            {"voter": name, "ask": voter.spec.name, "method": voter.spec.method, "text": cut(shown, _QUESTION)}
        )
    return texts


def cut(text: str, most: int) -> str:
    """Return a text cut to at most so many characters, with a note of the full length where it was cut."""
    return text if len(text) <= most else f"{text[:most]} … ({len(text):,} characters in all)"


def _question(question: Question, verdict: Verdict, voters: list[ListedVoter]) -> ListedQuestion:
    return {
        "id": cut(question.task_id, _CHOICE),
        "s": None if question.subject is None else cut(question.subject, 200),
        "q": cut(question.question, _QUESTION),
        "c": [cut(choice, _CHOICE) for choice in question.choices],
        "a": question.answer,
        "l": verdict.letter,
        "p": _rounded(verdict.probabilities),
        "v": voters,
    }


def _voter(vote: _Cast, answer: Answer | None) -> ListedVoter:
    shown: ListedVoter = {"st": vote.status, "l": vote.letter, "p": _rounded(vote.probabilities)}
    if answer is None:
        return shown
    if answer.turns:
        shown["t"] = [
            {"k": turn.kind, "l": turn.letter, "p": turn.p_true, "x": cut(turn.text, _SAID), "f": turn.found}
            for turn in answer.turns
        ]
    if len(answer.readings) > 1:
        shown["r"] = [
            ("".join(letters(26)[choice] for choice in reading.order), _rounded(reading.logprobs))
            for reading in answer.readings
        ]
    if answer.retrieved:
        shown["n"] = [(cut(n.task_id, 200), round(n.similarity, _DIGITS)) for n in answer.retrieved[:_NEIGHBOURS]]
    if answer.error:
        shown["e"] = cut(answer.error, _SAID)
    return shown


def _votes(run: RunDir, files: list[str], last: int) -> dict[tuple[str, str], _Cast]:
    rows = {}
    for name in files:
        table = run.read_table(name, ["voter", "task_id", "position", "status", "letter", "probabilities"])
        for row in table.filter(pc.less_equal(table["position"], pa.scalar(last))).to_pylist():
            rows[row["voter"], row["task_id"]] = _Cast(row["status"], row["letter"], row["probabilities"])
    return rows


def _answers(run: RunDir, ensemble: Ensemble, questions: list[Question]) -> dict[tuple[str, str], Answer]:
    answers = {}
    for name, voter in ensemble.voters.items():
        keys = {voter.spec.key(question) for question in questions}
        for answer in stored_answers(run, voter.pool, keys).values():
            answers[name, answer.task_id] = answer
    return answers


def _rounded(values: Iterable[float]) -> list[float]:
    # JSON has no infinity, which the logarithm of zero is, and no NaN.
    return [round(float(np.nan_to_num(value, nan=_NOTHING, neginf=_NOTHING)), _DIGITS) for value in values]
