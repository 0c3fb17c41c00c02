"""Weights by kind: fitted where the fit split shows that voters know one kind and guess another, and not elsewhere."""

from dataclasses import replace

import numpy as np
import pytest

from codemmlu.voting.ballots import Ballots
from codemmlu.voting.by_kind import calibrated, decide
from codemmlu.voting.fitting import FitSettings, fit
from codemmlu.voting.model import EnsembleModel

CHOICES = 4
KINDS = ("knowledge", "output")


def votes(count: int, knows: dict[str, dict[str, float]], seed: int = 0) -> tuple[Ballots, list[int]]:
    """Return votes on questions of two kinds, where each voter knows a share of each kind, and the right choices."""
    random = np.random.default_rng(seed)
    names = sorted(knows)
    kinds = tuple(KINDS[number % 2] for number in range(count))
    right = random.integers(0, CHOICES, count)
    odds = np.empty((count, len(names), CHOICES))
    for column, name in enumerate(names):
        skills = np.array([knows[name][kind] for kind in kinds])
        logits = random.normal(0, 1, (count, CHOICES))
        logits[np.arange(count), right] += 3 * skills
        odds[:, column] = np.exp(logits)
    odds /= odds.sum(axis=2, keepdims=True)
    cast = Ballots(
        voters=tuple(names),
        task_ids=tuple(f"t{place}" for place in range(count)),
        positions=np.arange(count),
        choices=np.ones((count, CHOICES), dtype=bool),
        status=np.zeros((count, len(names)), dtype=np.int8),
        letters=odds.argmax(axis=2),
        probabilities=odds,
        sharp=np.zeros((count, len(names)), dtype=bool),
        similarity=np.full(count, np.nan),
        subjects=(None,) * count,
        kinds=kinds,
    )
    return cast, right.tolist()


SPECIAL = {"facts": {"knowledge": 0.8, "output": 0.0}, "tool": {"knowledge": 0.0, "output": 0.8}}
ALIKE = {"one": {"knowledge": 0.5, "output": 0.5}, "other": {"knowledge": 0.3, "output": 0.3}}


@pytest.fixture(scope="module")
def special() -> EnsembleModel:
    cast, right = votes(200, SPECIAL)
    return fit(cast, right, FitSettings(cast.voters))


def accuracy(cast: Ballots, right: list[int], model: EnsembleModel) -> float:
    return float((decide("log_pool", cast, model).letters == right).mean())


def test_a_voter_rules_where_it_knows(special: EnsembleModel) -> None:
    assert set(special.kinds) == set(KINDS)
    for kind, knows, guesses in (("knowledge", "facts", "tool"), ("output", "tool", "facts")):
        own = special.kinds[kind].voters
        loud, quiet = (own[name].weight / own[name].temperature for name in (knows, guesses))
        assert loud > 3 * quiet
        assert own[knows].skill > special.of(knows).skill > own[guesses].skill
    fresh, answers = votes(1000, SPECIAL, seed=1)
    whole = special.model_copy(update={"kinds": {}})
    assert accuracy(fresh, answers, special) > accuracy(fresh, answers, whole) + 0.05


def test_kinds_that_are_alike_change_nothing() -> None:
    cast, right = votes(200, ALIKE)
    assert fit(cast, right, FitSettings(cast.voters)) == fit(replace(cast, kinds=()), right, FitSettings(cast.voters))


def test_a_kind_without_examples_takes_the_whole(special: EnsembleModel) -> None:
    fresh, _ = votes(40, SPECIAL, seed=2)
    unknown = replace(fresh, kinds=("repair",) * 40)
    whole = special.model_copy(update={"kinds": {}})
    for rule in ("log_pool", "weighted", "cascade", "stacked", "majority"):
        one, other = decide(rule, unknown, special), decide(rule, unknown, whole)
        assert np.array_equal(one.letters, other.letters)
        assert np.allclose(one.probabilities, other.probabilities)


def test_each_question_has_the_temperature_of_its_kind(special: EnsembleModel) -> None:
    fresh, _ = votes(10, SPECIAL, seed=3)
    logs = calibrated(fresh, special)
    for number, kind in enumerate(fresh.kinds):
        alone = calibrated(fresh.rows(np.array([number])), special.on(kind))
        assert np.allclose(logs[number], alone[0])
