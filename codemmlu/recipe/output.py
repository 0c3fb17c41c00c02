"""The sections `vote`, `report` and `submission`: what is made of the answers."""

from typing import Annotated, Literal

from pydantic import Field

from codemmlu.recipe.base import Name, Settings

Rule = Literal[
    "log_pool", "majority", "weighted", "borda", "instant_runoff", "dawid_skene", "cascade", "stacked"
]  # see codemmlu/voting/rules.py
# Rules that are nothing before they are fitted.
FITTED_RULES = ("stacked",)


class FitSettings(Settings):
    """What is fitted is fitted on `limit` examples of the fit split, asked as the questions are; never on these."""

    limit: Annotated[int, Field(ge=1)] = 300


class VoteSettings(Settings):
    """How the voters' probabilities become one verdict. With one voter every rule gives that voter's answer."""

    rule: Rule = "log_pool"
    fit: FitSettings | None = None  # None: nothing is fitted, all voters weigh the same
    # Of the rule `cascade`: the voters in turn, and the margin from which on one is clear enough to be the last.
    # None: as they stand in the recipe; and the margin that served the fit split best, 0.2 without one.
    order: tuple[Name, ...] | None = None
    margin: Annotated[float, Field(ge=0, le=1)] | None = None
    part: Annotated[int, Field(ge=1)] = 25_000  # questions that are reduced at once; of more parts Ray Data groups them


class ReportSettings(Settings):
    """What is measured besides.

    order_sensitivity: voters whose accuracy is measured with the right choice swapped to A, B, C and D in turn
    (CodeMMLU, arXiv:2410.01999): four more times the asks, of questions that have an answer and four choices
    """

    order_sensitivity: tuple[Name, ...] = ()


class SubmissionSettings(Settings):
    """submission.csv. `blank` stands where there is no answer."""

    blank: str = ""
