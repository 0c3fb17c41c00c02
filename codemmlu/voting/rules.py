"""Rules: the votes on one question become its verdict. Abstentions and failures never vote."""

from collections.abc import Callable, Sequence

import numpy as np

from codemmlu.rows import Question, Verdict, Vote
from codemmlu.scoring import pick
from codemmlu.scoring.readings import log_softmax

Rule = Callable[[Sequence[Vote]], tuple[float, ...]]

# A voter that is certain and wrong must not silence all others.
_FLOOR = 1e-6


def log_pool(votes: Sequence[Vote]) -> tuple[float, ...]:
    """The normalised geometric mean of the voters' probabilities (Genest and Zidek 1986), all weighing the same."""
    logs = np.log(np.maximum([vote.probabilities for vote in votes], _FLOOR))
    return tuple(float(p) for p in np.exp(log_softmax(logs.mean(axis=0))))


RULES: dict[str, Rule] = {"log_pool": log_pool}


def decide(rule: str, question: Question, votes: Sequence[Vote]) -> Verdict:
    """The verdict on one question. The voters' order does not matter; of equally probable choices the first wins."""
    counted = sorted((vote for vote in votes if vote.status == "answered"), key=lambda vote: vote.voter)
    if not counted:
        return Verdict(question.task_id, question.position, None, (), rule)
    # One voter's verdict is its own answer, to the last digit.
    probabilities = RULES[rule](counted) if len(counted) > 1 else counted[0].probabilities
    return Verdict(question.task_id, question.position, pick(probabilities), probabilities, rule)
