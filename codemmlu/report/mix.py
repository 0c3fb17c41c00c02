"""Totals in the mix of kinds of another file: each kind's accuracy, weighted by that file's share of the kind."""

from collections import Counter
from collections.abc import Mapping

from codemmlu.dataset import QuestionStream
from codemmlu.dataset.kind import BUILT_IN, KindRules
from codemmlu.errors import UserError
from codemmlu.recipe import QuestionSettings
from codemmlu.report.evidence_results import KindNumbers, KindReport, MixReport, MixTotal
from codemmlu.schema import Question

_WIDTH = 1.96  # standard errors on each side of a 95 % interval


def shares_of(mix: str | Mapping[str, float], rules: KindRules = BUILT_IN) -> dict[str, float]:
    """Return the share of each kind in a mix.

    Args:
        mix: The address of a file of questions, which need no labels; or weights by kind.
        rules: The rules that name the kind of a question.

    Returns:
        Shares that sum to one.

    Raises:
        UserError: The file cannot be read, or a weight has an unknown kind or none is above zero.
    """
    if isinstance(mix, str):
        try:
            rows = QuestionStream(QuestionSettings(source=mix)).rows()
            weights: Mapping[str, float] = Counter(rules.kind_of(row) for row in rows if isinstance(row, Question))
        except UserError as error:
            raise UserError(str(error), key="report.mix") from None
    else:
        weights = mix
    if unknown := [kind for kind in weights if kind not in rules.names]:
        raise UserError(f"there is no kind {unknown[0]!r}; kinds: {', '.join(rules.names)}", key="report.mix")
    total = sum(weights.values())
    if total <= 0 or min(weights.values()) < 0:
        raise UserError("the weights have to be at least zero, and one of them above", key="report.mix")
    return {kind: weight / total for kind, weight in weights.items() if weight}


def mixed(kinds: Mapping[str, KindReport], shares: Mapping[str, float]) -> MixReport:
    """Return the totals of all voters and of the vote in another mix.

    Args:
        kinds: The section `kinds` of the report.
        shares: The share of each kind.

    Returns:
        The totals.
    """
    names = sorted({name for own in kinds.values() for name in own.voters})
    return MixReport(
        shares=dict(shares),
        voters={name: _total({kind: own.voters[name] for kind, own in kinds.items()}, shares) for name in names},
        vote=_total({kind: own.vote for kind, own in kinds.items()}, shares),
    )


def _total(numbers: Mapping[str, KindNumbers], shares: Mapping[str, float]) -> MixTotal:
    if any(kind not in numbers or not numbers[kind].asked for kind in shares):
        return MixTotal(accuracy=None, interval=None)
    accuracy = variance = 0.0
    for kind, share in shares.items():
        right, asked = numbers[kind].right, numbers[kind].asked
        accuracy += share * right / asked
        # One more right and one more wrong: a kind without a mistake is not certain (Agresti and Coull 1998).
        smooth = (right + 1) / (asked + 2)
        variance += share**2 * smooth * (1 - smooth) / asked
    half = _WIDTH * variance**0.5
    return MixTotal(accuracy=accuracy, interval=(max(0.0, accuracy - half), min(1.0, accuracy + half)))
