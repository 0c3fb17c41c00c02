"""The fit split: the votes on its examples, and the ensemble model that is fitted on them."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from codemmlu.dataset.stored import stored_questions
from codemmlu.errors import Progress
from codemmlu.inference.calibration import calibration_answers
from codemmlu.inference.voters import Ensemble
from codemmlu.inference.votes import load_votes, submitted_on_fit
from codemmlu.recipe import Recipe, uses_examples
from codemmlu.run_dir import RunDir
from codemmlu.schema import Answer, Vote, letters, to_table
from codemmlu.voting import dawid_skene, fitting
from codemmlu.voting.ballots import Ballots, ballots
from codemmlu.voting.model import EnsembleModel
from codemmlu.voting.reduction import ReduceResult

# Skill by agreement is estimated from about this many questions: with many voters, time and memory grow with them.
_AGREEMENT = 100_000
# The fitted model, for a user to read.
FITTED = "fitted/vote.json"


@dataclass(frozen=True)
class Learnt:
    """The answers to examples and calibration questions, and the ensemble model that is fitted on them.

    Attributes:
        fitted: The ensemble model.
        asked_for_fit: Every voter's answers on the fit split.
        besides: By voter, the answers that its calibration is estimated from.
    """

    fitted: EnsembleModel
    asked_for_fit: list[Answer]
    besides: dict[str, list[Answer]]


def learn(recipe: Recipe, run: RunDir, ensemble: Ensemble, reduced: ReduceResult, progress: Progress) -> Learnt:
    """Fit weights, temperatures and margin on the fit split, or skills by agreement alone without one."""
    settings = recipe.vote
    names = sorted([*ensemble.voters, *ensemble.submissions])
    named = np.column_stack([reduced.columns[f"letter/{name}"].to_numpy() for name in names]).astype(np.int64)
    sizes = reduced.columns["choices"].to_numpy().astype(np.int64)
    sample = slice(None, None, max(1, -(-len(named) // _AGREEMENT)))
    agreed = dawid_skene.skills(names, named[sample], sizes[sample])
    order = (*(settings.order or ()), *(n for n in recipe.voters if n not in (settings.order or ())))
    besides = {
        name: calibration_answers(run, voter.pool, voter.calibration)
        for name, voter in ensemble.voters.items()
        if voter.calibration
    }
    if not ensemble.fit_questions:
        fitted = EnsembleModel(agreed=agreed, order=order)
        if settings.margin is not None:
            fitted = fitted.model_copy(update={"margin": settings.margin})
        asked: list[Answer] = []
    else:
        seen = load_votes(run, ensemble.voters, ensemble.voters, ensemble.fit_questions)
        votes: list[Vote] = [vote for voter_votes in seen.values() for vote in voter_votes.votes]
        names_asked = frozenset(q.task_id for q in stored_questions(run)) if ensemble.submissions else frozenset()
        for name, submission in ensemble.submissions.items():
            votes += submitted_on_fit(name, ensemble.fit_questions, submission, names_asked)
        looks = frozenset(name for name, settings in recipe.voters.items() if uses_examples(settings))
        fitted = fitting.fit(*_solved(ensemble, votes), fitting.FitSettings(order, looks, agreed, settings.margin))
        unasked = sum(vote.status == "failed" for vote in votes) - sum(
            answer.status == "failed" for voter_votes in seen.values() for answer in voter_votes.answers.values()
        )
        if unasked > 0:
            progress.say(
                f"vote.fit: {unasked:,} answers to {len(ensemble.fit_questions):,} examples are missing, as "
                "jobs/run.py has not asked them; what is fitted knows nothing of these"
            )
        answers = (answer for voter_votes in seen.values() for answer in voter_votes.answers.values())
        asked = list({answer.key: answer for answer in answers}.values())
    run.write(FITTED, fitted.model_dump_json(indent=1).encode())
    return Learnt(fitted, asked, besides)


def _solved(ensemble: Ensemble, votes: list[Vote]) -> tuple[Ballots, list[int]]:
    """Return the ballots of the fit split, and the right choices in the order of these ballots."""
    kinds = pa.table(
        {"position": range(len(ensemble.fit_questions)), "kind": map(ensemble.kinds.kind_of, ensemble.fit_questions)}
    )
    fit_ballots = ballots(_numbered(ensemble, votes), kinds)
    names = letters(26)
    right = {question.task_id: names.index(question.answer or "") for question in ensemble.fit_questions}
    return fit_ballots, [right[task_id] for task_id in fit_ballots.task_ids]


def _numbered(ensemble: Ensemble, votes: list[Vote]) -> pa.Table:
    """Return a table of votes on the fit split, with each example's index as its position.

    The votes hold positions in the file of the examples, which is another file.

    Returns:
        A table with the schema `schema.VOTE`.
    """
    table = to_table(votes, Vote)
    indices = {question.task_id: number for number, question in enumerate(ensemble.fit_questions)}
    numbers = pa.array([indices[str(name)] for name in table["task_id"].to_pylist()], pa.int64())
    return table.set_column(table.schema.get_field_index("position"), "position", numbers)
