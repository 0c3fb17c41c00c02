"""report.json: the results of a run, put together from the summary and the statistics."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from codemmlu.dataset import QuestionStream
from codemmlu.engine.adapter_store import read_manifest
from codemmlu.inference.calibration import stored_threshold
from codemmlu.inference.learnt_evidence import LearntEvidence
from codemmlu.inference.learnt_states import LearntStates
from codemmlu.inference.voters import Ensemble
from codemmlu.inference.votes import VoterPrior
from codemmlu.recipe import EvidenceVoter, Recipe, adapter_names, model_name, when_of
from codemmlu.report import artefacts, statistics, summary
from codemmlu.report.evidence_results import KindReport
from codemmlu.report.kinds import by_kind, kinds_of
from codemmlu.report.mix import mixed
from codemmlu.report.savings import savings
from codemmlu.report.schema import FitReport, ModelReport, Report, SubmissionReport, TrainingReport, VoterReport
from codemmlu.report.score_table import ScoreTable, letter_counts
from codemmlu.run_dir import RunDir
from codemmlu.voting.costs import Costs, cost_sums, sum_costs
from codemmlu.voting.fit_split import Learnt
from codemmlu.voting.reduction import ReduceResult
from codemmlu.voting.sums import MOST_FAILURES, Failure


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
        submission: The counts of submission.csv.
        models: By name, the models that were asked.
        without_artefacts: The verdicts of all voters but artefact voters, as indices of letters by position; None
            where there are no such verdicts.
        mix: The share of each kind in the mix of report.mix; None without one.
    """

    recipe: Recipe
    run: RunDir
    ensemble: Ensemble
    loaded: QuestionStream
    reduced: ReduceResult
    learnt: Learnt
    scores: ScoreTable
    submission: SubmissionReport
    models: Mapping[str, ModelReport]
    without_artefacts: npt.NDArray[np.int8] | None = None
    mix: Mapping[str, float] | None = None


def build_report(evaluation: Evaluation) -> tuple[Report, int]:
    """Build report.json.

    Args:
        evaluation: The results of the run.

    Returns:
        The report, and the number of answers that failed.
    """
    loaded, learnt, scores = evaluation.loaded, evaluation.learnt, evaluation.scores
    rule, sums = evaluation.recipe.vote.rule, evaluation.reduced.sums
    pairs, ranks = summary.comparisons(scores, rule)
    broken = _broken(learnt)
    voters = {name: _voter(evaluation, name, ranks[name]) for name in evaluation.recipe.voters}
    looks = _looks_at_tools(evaluation.recipe)
    kinds = _by_kind(evaluation) if looks or evaluation.mix or evaluation.ensemble.kinds.patterns else None
    report = Report(
        questions=loaded.questions,
        labelled=loaded.labelled,
        rejected=loaded.rejected,
        notes=loaded.notes(),
        chance=summary.chance(scores),
        letters_right=letter_counts(scores.right),
        voters=voters,
        asks={spec: summary.cost(costs) for spec, costs in sums.asks.items()},
        vote=summary.vote(scores, rule, ranks.get(summary.VOTE)),
        rules=summary.rules(scores, learnt.fitted),
        fitted=FitReport(
            questions=learnt.fitted.fitted_on,
            margin=learnt.fitted.margin,
            voters=summary.weights(learnt.fitted, list(evaluation.recipe.voters)),
            **vars(summary.cost(cost_sums(learnt.asked_for_fit))),
        ),
        comparisons=pairs,
        agreement=statistics.agreement(scores),
        slices=statistics.slices(scores, rule),
        hindsight=statistics.hindsight(scores),
        order_sensitivity=summary.order_sensitivity(sums.swaps),
        leakage=summary.leakage(scores),
        training=_training(evaluation.recipe, evaluation.run),
        failures=[*sums.failures, *broken][:MOST_FAILURES],
        out=evaluation.run.shown,
        submission=evaluation.submission,
        models=dict(evaluation.models),
        kinds=kinds,
        artefacts=artefacts.totals(evaluation.recipe, scores, evaluation.without_artefacts),
        saved=savings(scores, voters) if looks else None,
        mix=mixed(kinds, evaluation.mix) if kinds and evaluation.mix else None,
    )
    return report, sums.failed + sums.swaps_failed + len(broken)


def _by_kind(evaluation: Evaluation) -> dict[str, KindReport]:
    rules = evaluation.ensemble.kinds
    codes = kinds_of(evaluation.run, rules)
    return by_kind(codes, rules.names, evaluation.scores, evaluation.recipe.vote.rule)


def _looks_at_tools(recipe: Recipe) -> bool:
    """Tell whether a voter looks at tools or at the text, or whether voters that decide alone spare it questions."""
    conditions = [when for voter in recipe.asked.values() if (when := when_of(voter))]
    return any(isinstance(voter, EvidenceVoter) for voter in recipe.asked.values()) or any(
        when.undecided_by for when in conditions
    )


def _broken(learnt: Learnt) -> list[Failure]:
    """Return the failed answers to examples and calibration questions, each once."""
    answers = [(name, answer) for name, answers in learnt.besides.items() for answer in answers]
    answers += [("vote.fit", answer) for answer in learnt.asked_for_fit]
    failed = {
        answer.key: Failure(answer.task_id, name, answer.error or "")
        for name, answer in answers
        if answer.status == "failed"
    }
    return list(failed.values())


def _training(recipe: Recipe, run: RunDir) -> TrainingReport | None:
    """Return the loss curves and the facts of the adapter that the recipe trains; None without an adapter."""
    settings = recipe.finetune
    manifest = read_manifest(run, settings.name) if settings else None
    if manifest is None or not any(manifest.name in adapter_names(v) for v in recipe.asked.values()):
        return None
    return TrainingReport(
        name=manifest.name,
        train_examples=manifest.train_examples,
        steps=manifest.steps,
        best_step=manifest.best_step,
        backend=manifest.backend,
        device=manifest.device,
        train=manifest.train,
        tune=manifest.tune,
    )


def _voter(evaluation: Evaluation, name: str, rank: int | None) -> VoterReport:
    """Return the numbers of a voter, its spec and its model, and its estimated prior and threshold."""
    run, sums = evaluation.run, evaluation.reduced.sums
    # The answers that a voter's calibration is estimated from are part of its cost, as if it were the only voter.
    costs = [sums.voters.get(name, Costs()), cost_sums(evaluation.learnt.besides.get(name, ()))]
    numbers = summary.voter(evaluation.scores, name, sum_costs(costs))
    voter = evaluation.ensemble.voters.get(name)
    if voter is None:
        return VoterReport(**vars(numbers), rank=rank)
    threshold = None
    if voter.calibration and voter.fits_threshold:
        threshold = stored_threshold(run, voter.pool, voter.calibration)
    return VoterReport(
        **vars(numbers),
        rank=rank,
        ask=voter.spec.name,
        model=model_name(voter.settings) or voter.pool,
        adapter=voter.adapter.fingerprint if voter.adapter else None,
        prior=_shares(evaluation.reduced.priors[name]),
        threshold=threshold,
        early_exit=sums.early_exit.get(name),
    )


def _shares(prior: VoterPrior | None) -> dict[str, list[float]] | None:
    """Return a prior as probabilities: the share of each letter, by the number of choices."""
    if prior is None or isinstance(prior, LearntEvidence | LearntStates):
        return None
    return {str(size): [math.exp(x) for x in logs] for size, logs in prior.items()}
