"""report.json: the results of a run, put together from the summary and the statistics."""

import math
from dataclasses import dataclass
from typing import Any

from codemmlu.dataset import QuestionStream
from codemmlu.engine import lora
from codemmlu.engine.adapter_store import read_manifest
from codemmlu.inference.calibration import stored_threshold
from codemmlu.inference.learnt_evidence import LearntEvidence
from codemmlu.inference.voters import Ensemble
from codemmlu.inference.votes import VoterPrior
from codemmlu.recipe import Recipe, adapter_name
from codemmlu.report import statistics, summary
from codemmlu.report.score_table import ScoreTable, letter_counts
from codemmlu.run_dir import RunDir
from codemmlu.voting.aggregation import MOST_FAILURES, cost_sums, sum_costs
from codemmlu.voting.fit_split import Learnt
from codemmlu.voting.reduction import ReduceResult


@dataclass(frozen=True)
class Evaluation:
    """The results of a run: everything that report.json is built from.

    Attributes:
        recipe: The resolved recipe.
        run: The run directory.
        ensemble: All voters of the run.
        loaded: The questions, with counts and notes of the rows that were read.
        reduced: The result of the reduce.
        learnt: The fitted ensemble model, and the answers that it was fitted on.
        scores: The score table.
    """

    recipe: Recipe
    run: RunDir
    ensemble: Ensemble
    loaded: QuestionStream
    reduced: ReduceResult
    learnt: Learnt
    scores: ScoreTable


def build_report(evaluation: Evaluation) -> tuple[dict[str, Any], int]:
    """Build report.json, except for its sections on the models and on the submission.

    Args:
        evaluation: The results of the run.

    Returns:
        The report, and the number of answers that failed.
    """
    recipe, run, ensemble, loaded = evaluation.recipe, evaluation.run, evaluation.ensemble, evaluation.loaded
    reduced, learnt, scores = evaluation.reduced, evaluation.learnt, evaluation.scores
    rule, sums = recipe.vote.rule, reduced.sums
    pairs, ranks = summary.comparisons(scores, rule)
    voters = {}
    for name in recipe.voters:
        costs = [sums["voters"].get(name) or cost_sums(()), cost_sums(learnt.besides.get(name, ()))]
        # The answers that a voter's calibration is estimated from are part of its cost, as if it were the only voter.
        voters[name] = (
            summary.voter(scores, name, sum_costs(costs)) | {"rank": ranks[name]} | _voter(run, ensemble, name, reduced)
        )
    other_answers = [(name, answer) for name, answers in learnt.besides.items() for answer in answers]
    other_answers += [("vote.fit", answer) for answer in learnt.asked_for_fit]
    broken = {
        answer.key: {"task_id": answer.task_id, "voter": name, "error": answer.error or ""}
        for name, answer in other_answers
        if answer.status == "failed"
    }
    return {
        "questions": loaded.questions,
        "labelled": loaded.labelled,
        "rejected": loaded.rejected,
        "notes": loaded.notes(),
        "chance": summary.chance(scores),
        "letters_right": letter_counts(scores.right),
        "voters": voters,
        "asks": {spec: summary.cost(costs) for spec, costs in sums["asks"].items()},
        "vote": summary.vote(scores, rule) | {"rank": ranks.get(summary.VOTE)},
        "rules": summary.rules(scores, learnt.fitted),
        "fitted": {
            "questions": learnt.fitted.fitted_on,
            "margin": learnt.fitted.margin,
            "voters": summary.weights(learnt.fitted, list(recipe.voters)),
            **summary.cost(cost_sums(learnt.asked_for_fit)),
        },
        "comparisons": pairs,
        "agreement": statistics.agreement(scores),
        "slices": statistics.slices(scores, rule),
        "hindsight": statistics.hindsight(scores),
        "order_sensitivity": summary.order_sensitivity(sums["swaps"]),
        "leakage": summary.leakage(scores),
        "training": _training(recipe, run),
        "failures": [*sums["failures"], *broken.values()][:MOST_FAILURES],
        "out": run.shown,
    }, sums["failed"] + sums["swaps_failed"] + len(broken)


def _training(recipe: Recipe, run: RunDir) -> dict[str, Any] | None:
    """Return the loss curves and the facts of the adapter that the recipe trains; None without an adapter."""
    settings = recipe.finetune
    manifest = read_manifest(run, settings.name) if settings else None
    if manifest is None or not any(adapter_name(v) == manifest.name for v in recipe.asked.values()):
        return None
    shown = {"name", "backend", "device", "train_examples", "steps", "best_step", "train", "tune"}
    return manifest.model_dump(mode="json", include=shown)


def _voter(run: RunDir, ensemble: Ensemble, name: str, reduced: ReduceResult) -> dict[str, Any]:
    """Return the spec and model behind a voter, and its estimated prior and threshold."""
    voter = ensemble.voters.get(name)
    if voter is None:
        return {"ask": None, "model": None, "adapter": None, "prior": None, "threshold": None, "early_exit": None}
    threshold = None
    if voter.calibration and voter.fits_threshold:
        threshold = stored_threshold(run, voter.pool, voter.calibration)
    return {
        "ask": voter.spec.name,
        "model": voter.pool,
        "adapter": lora.validate(voter.spec.adapter, "adapter").fingerprint if voter.spec.adapter else None,
        "prior": _shares(reduced.priors[name]),
        "threshold": threshold,
        "early_exit": reduced.sums["early_exit"].get(name),
    }


def _shares(prior: VoterPrior | None) -> dict[str, list[float]] | None:
    """Return a prior as probabilities: the share of each letter, by the number of choices."""
    if prior is None or isinstance(prior, LearntEvidence):
        return None
    return {str(size): [math.exp(x) for x in logs] for size, logs in prior.items()}
