"""What the report shows of each question: the question, every voter's answer with its turns, and the verdict.

Questions and what models say are untrusted text of any length: long text is cut, and says so.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from codemmlu.dataset.stored import stored_questions
from codemmlu.inference.answer_store import stored_answers
from codemmlu.inference.voters import Ensemble
from codemmlu.mcq import render
from codemmlu.recipe import RetrieveVoter
from codemmlu.run_dir import RunDir
from codemmlu.schema import Answer, Question, Verdict, letters

# Questions that the page lists; all of them are in the run directory.
MOST = 10_000
# Characters that it shows of a question, of a choice, of what a model said or was shown.
_QUESTION, _CHOICE, _SAID = 6_000, 1_000, 2_000
_NEIGHBOURS = 5
_BUDGET = 30_000_000  # characters of turns in all
_DIGITS = 3
_NOTHING = -99.0


def details(
    run: RunDir, ensemble: Ensemble, names: Sequence[str], verdicts: Iterator[Verdict], votes: list[str]
) -> list[dict[str, Any]]:
    """The first questions in the file's order.

    names: the voters, as the page has them; verdicts: of all, in that order; votes: the files of the votes
    """
    first = {verdict.task_id: verdict for verdict in islice(verdicts, MOST)}
    last = max((verdict.position for verdict in first.values()), default=-1)
    asked = {q.task_id: q for q in stored_questions(run) if q.task_id in first}
    said = _votes(run, votes, last)
    answers = _answers(run, ensemble, list(asked.values()))
    listed, spent = [], 0
    for task_id, verdict in first.items():
        # What models said at length is left out once the page is too large to open.
        told = {name: answers.get((name, task_id)) if spent < _BUDGET else None for name in names}
        spent += sum(len(turn.text[:_SAID]) + 100 for one in told.values() if one for turn in one.turns)
        row = {"v": [_voter(said[name, task_id], told[name]) for name in names]}
        listed.append(_question(asked[task_id], verdict) | row)
    return listed


def prompts(ensemble: Ensemble, question: Question) -> list[dict[str, str]]:
    """How each voter's model is asked: what it is shown of one question first, in the chat's own words."""
    found = []
    for name, voter in ensemble.voters.items():
        if isinstance(voter.settings, RetrieveVoter):
            continue
        prompt = render(question, voter.ask.template)
        shown = "\n\n".join(message.content for message in prompt.messages)
        found.append({"voter": name, "ask": voter.ask.name, "method": voter.ask.method, "text": cut(shown, _QUESTION)})
    return found


def cut(text: str, most: int) -> str:
    """Text of at most so many characters, which says how long it was."""
    return text if len(text) <= most else f"{text[:most]} … ({len(text):,} characters in all)"


def _question(question: Question, verdict: Verdict) -> dict[str, Any]:
    return {
        "id": cut(question.task_id, _CHOICE),
        "s": None if question.subject is None else cut(question.subject, 200),
        "q": cut(question.question, _QUESTION),
        "c": [cut(choice, _CHOICE) for choice in question.choices],
        "a": question.answer,
        "l": verdict.letter,
        "p": _rounded(verdict.probabilities),
    }


def _voter(vote: Mapping[str, Any], answer: Answer | None) -> dict[str, Any]:
    shown: dict[str, Any] = {"st": vote["status"], "l": vote["letter"], "p": _rounded(vote["probabilities"])}
    if answer is None:
        return shown
    if answer.turns:
        shown["t"] = [
            {"k": turn.kind, "l": turn.letter, "p": turn.p_true, "x": cut(turn.text, _SAID), "f": turn.found}
            for turn in answer.turns
        ]
    if len(answer.readings) > 1:
        shown["r"] = [
            ["".join(letters(26)[choice] for choice in reading.order), _rounded(reading.logprobs)]
            for reading in answer.readings
        ]
    if answer.retrieved:
        shown["n"] = [[cut(n.task_id, 200), round(n.similarity, _DIGITS)] for n in answer.retrieved[:_NEIGHBOURS]]
    if answer.error:
        shown["e"] = cut(answer.error, _SAID)
    return shown


def _votes(run: RunDir, files: list[str], last: int) -> dict[tuple[str, str], dict[str, Any]]:
    found = {}
    for name in files:
        table = run.read_table(name, ["voter", "task_id", "position", "status", "letter", "probabilities"])
        for row in table.filter(pc.less_equal(table["position"], pa.scalar(last))).to_pylist():
            found[row["voter"], row["task_id"]] = row
    return found


def _answers(run: RunDir, ensemble: Ensemble, questions: list[Question]) -> dict[tuple[str, str], Answer]:
    found = {}
    for name, voter in ensemble.voters.items():
        keys = {voter.ask.key(question) for question in questions}
        for answer in stored_answers(run, voter.pool, keys).values():
            found[name, answer.task_id] = answer
    return found


def _rounded(values: Iterable[float]) -> list[float]:
    # JSON knows no infinity, which the logarithm of nothing is, and no NaN.
    return [round(float(np.nan_to_num(value, nan=_NOTHING, neginf=_NOTHING)), _DIGITS) for value in values]
