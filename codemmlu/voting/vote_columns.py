"""The columns of numbers that the statistics need: one row per question, some forty bytes each."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from codemmlu.inference.voters import Ensemble, ResolvedVoter
from codemmlu.inference.votes import VoterVotes, votes_from_answers
from codemmlu.mcq import is_finite
from codemmlu.recipe import DirectVoter
from codemmlu.schema import Question, Vote, letters
from codemmlu.voting.ballots import STATUSES

_NO_LETTER = -1
_VERBATIM = {None: -1, False: 0, True: 1}


def vote_columns(
    questions: Sequence[Question], ensemble: Ensemble, votes: Mapping[str, list[Vote]], seen: Mapping[str, VoterVotes]
) -> pa.Table:
    """Return the columns of some questions, in the order of the questions.

    Args:
        questions: The questions of one partition.
        ensemble: All voters of the run.
        votes: Each voter's votes, submissions included, in the order of the questions.
        seen: The votes of the voters that are asked, with the answers behind them.

    Returns:
        The right letter, the size, and every voter's status, letter and confidence. Letters are numbers from 0, and -1
        where there is none; `verbatim` is -1 where no voter looked at examples. `kind` is there if a vote is fitted.
    """
    names = letters(26)
    verbatim: dict[str, int] = {}
    nearest: dict[str, float] = {}
    for voter_votes in seen.values():
        for answer in voter_votes.answers.values():
            if answer.verbatim is not None:
                verbatim[answer.task_id] = _VERBATIM[answer.verbatim]
                nearest[answer.task_id] = np.nan if answer.nearest is None else answer.nearest
    columns: dict[str, Any] = {
        "position": pa.array([q.position for q in questions], pa.int64()),
        "choices": pa.array([len(q.choices) for q in questions], pa.int8()),
        "right": pa.array([_NO_LETTER if q.answer is None else names.index(q.answer) for q in questions], pa.int8()),
        "characters": pa.array([len(q.question) + sum(map(len, q.choices)) for q in questions], pa.int32()),
        "subject": pa.array([q.subject for q in questions], pa.string()).dictionary_encode(),
        "verbatim": pa.array([verbatim.get(q.task_id, -1) for q in questions], pa.int8()),
        "nearest": pa.array([nearest.get(q.task_id, np.nan) for q in questions], pa.float32()),
    }
    if ensemble.fit_questions:  # Only a fitted vote asks for kinds.
        columns["kind"] = pa.array(map(ensemble.kinds.kind_of, questions), pa.string()).dictionary_encode()
    for name, cast in votes.items():
        columns[f"status/{name}"] = pa.array([STATUSES.index(vote.status) for vote in cast], pa.int8())
        columns[f"letter/{name}"] = pa.array(
            [_NO_LETTER if vote.letter is None else names.index(vote.letter) for vote in cast], pa.int8()
        )
        confidence = [max(vote.probabilities, default=np.nan) for vote in cast]
        columns[f"sure/{name}"] = pa.array(confidence, pa.float32())
    for name, voter in ensemble.voters.items():
        if voter.spec.method == "sample":
            alone = _reading_alone(voter, seen[name], questions)
            columns[f"alone/{name}"] = pa.array(
                [_NO_LETTER if letter is None else names.index(letter) for letter in alone], pa.int8()
            )
    return pa.table(columns)


def _reading_alone(voter: ResolvedVoter, seen: VoterVotes, questions: Sequence[Question]) -> list[str | None]:
    """Return the letters that the one reading beside the replies of `sample` gives by itself."""
    as_read = DirectVoter(model=voter.pool)
    answers = {
        key: replace(answer, status="answered") if answer.readings and is_finite(answer.readings[0]) else answer
        for key, answer in seen.answers.items()
    }
    return [vote.letter for vote in votes_from_answers(replace(voter, settings=as_read), questions, answers)]
