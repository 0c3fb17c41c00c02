"""report.json: what a run has come to, in the words of the summary and the statistics."""

import math
from dataclasses import dataclass
from typing import Any

from codemmlu.dataset import QuestionStream
from codemmlu.engine import lora
from codemmlu.engine.adapter_store import read_manifest
from codemmlu.inference.calibration import stored_threshold
from codemmlu.inference.voters import Ensemble
from codemmlu.mcq import Prior
from codemmlu.recipe import Recipe, adapter_name
from codemmlu.report import statistics, summary
from codemmlu.report.score_table import ScoreTable, letter_counts
from codemmlu.run_dir import RunDir
from codemmlu.voting.aggregation import MOST_FAILURES, cost_sums, sum_costs
from codemmlu.voting.fit_split import Learnt
from codemmlu.voting.reduction import ReduceResult


@dataclass(frozen=True)
class Evaluation:
    """What a run has come to: everything that report.json tells of."""

    recipe: Recipe
    run: RunDir
    ensemble: Ensemble
    loaded: QuestionStream
    reduced: ReduceResult
    learnt: Learnt
    scores: ScoreTable


def build_report(evaluation: Evaluation) -> tuple[dict[str, Any], int]:
    """Build report.json, but for its models and its submission.

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
        # What its calibration was estimated from is part of its cost, as if it stood alone.
        voters[name] = (
            summary.voter(scores, name, sum_costs(costs)) | {"rank": ranks[name]} | _voter(run, ensemble, name, reduced)
        )
    also = [(name, answer) for name, its in learnt.besides.items() for answer in its]
    also += [("vote.fit", answer) for answer in learnt.asked_for_fit]
    broken = {
        answer.key: {"task_id": answer.task_id, "voter": name, "error": answer.error or ""}
        for name, answer in also
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
        "asks": {ask: summary.cost(told) for ask, told in sums["asks"].items()},
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
    """The curves of the weights that the recipe trains, and what they were learnt from; None where there are none."""
    settings = recipe.finetune
    manifest = read_manifest(run, settings.name) if settings else None
    if manifest is None or not any(adapter_name(v) == manifest.name for v in recipe.asked.values()):
        return None
    shown = {"name", "backend", "device", "train_examples", "steps", "best_step", "train", "tune"}
    return manifest.model_dump(mode="json", include=shown)


def _voter(run: RunDir, ensemble: Ensemble, name: str, reduced: ReduceResult) -> dict[str, Any]:
    """What stands behind a voter: its ask and model, and what was estimated for it."""
    voter = ensemble.voters.get(name)
    if voter is None:
        return {"ask": None, "model": None, "adapter": None, "prior": None, "threshold": None, "early_exit": None}
    threshold = None
    if voter.calibration and voter.fits_threshold:
        threshold = stored_threshold(run, voter.pool, voter.calibration)
    return {
        "ask": voter.ask.name,
        "model": voter.pool,
        "adapter": lora.validate(voter.ask.adapter, "adapter").fingerprint if voter.ask.adapter else None,
        "prior": _shares(reduced.priors[name]),
        "threshold": threshold,
        "early_exit": reduced.sums["early_exit"].get(name),
    }


def _shares(prior: Prior | None) -> dict[str, list[float]] | None:
    """A prior for people: number of choices to the share of each letter."""
    return None if prior is None else {str(size): [math.exp(x) for x in logs] for size, logs in prior.items()}
