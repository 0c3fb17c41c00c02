"""Voters as views: stored answers to one Vote per voter and question, without an engine."""

from collections.abc import Iterable

from codemmlu.answering.asks import Ask
from codemmlu.recipe import RetrieveVoter, VoterSettings
from codemmlu.rows import Answer, Question, Vote, answer_from
from codemmlu.run_dir import RunDir
from codemmlu.scoring import choice_probabilities, pick


def stored_answers(run: RunDir, pool: str, wanted: set[str]) -> dict[str, Answer]:
    """The answers of a pool under the wanted keys. Of several under one key an answered one counts, then the earliest.

    Two can be there when a failed ask was asked again, or when a kill came between writing a block and saying so.
    """
    found: dict[str, Answer] = {}
    for name in run.files(f"answers/{pool}"):
        for row in run.read_table(name).to_pylist():
            if row["key"] in wanted:
                answer = answer_from(row)
                rival = found.get(answer.key)
                if rival is None or _standing(answer) < _standing(rival):
                    found[answer.key] = answer
    return found


def _standing(answer: Answer) -> tuple[bool, float]:
    return answer.status == "failed", answer.started


def view(
    voter: str, settings: VoterSettings, ask: Ask, questions: Iterable[Question], answers: dict[str, Answer]
) -> list[Vote]:
    """One voter's votes, in the order of the questions; a question that was never asked counts as failed."""
    votes = []
    for question in questions:
        answer = answers.get(ask.key(question))
        status = answer.status if answer else "failed"
        if answer and status == "answered" and _abstains(settings, answer):
            status = "abstained"
        probabilities: tuple[float, ...] = ()
        if answer and status == "answered":
            probabilities = tuple(float(p) for p in choice_probabilities(answer.readings))
        letter = pick(probabilities) if probabilities else None
        votes.append(Vote(voter, question.task_id, question.position, status, letter, probabilities))
    return votes


def _abstains(settings: VoterSettings, answer: Answer) -> bool:
    """Whether nothing was near enough for a voter that answers by what is near."""
    if not isinstance(settings, RetrieveVoter) or settings.abstain_below <= 0:
        return False
    return not answer.retrieved or answer.retrieved[0].similarity < settings.abstain_below
