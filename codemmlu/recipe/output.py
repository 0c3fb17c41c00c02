"""The sections `vote`, `report` and `submission`: the processing of the answers."""

from typing import Annotated, Literal

from pydantic import Field

from codemmlu.recipe.base import Name, Settings

# The rules are explained in codemmlu/voting/rules.py.
Rule = Literal["log_pool", "majority", "weighted", "borda", "instant_runoff", "dawid_skene", "cascade", "stacked"]
# Rules that cannot vote before they are fitted.
FITTED_RULES = ("stacked",)


class FitSettings(Settings):
    """Fitting on `limit` examples of the fit split, asked like the questions; never on the questions."""

    limit: Annotated[int, Field(ge=1)] = 300


class VoteSettings(Settings):
    """The rule from the voters' probabilities to a verdict; with one voter, every rule gives its answer."""

    rule: Rule = "log_pool"
    fit: FitSettings | None = None  # None: nothing is fitted, and all voters have the same weight
    # For the rule `cascade`: the voters in turn; None: the order of the recipe.
    order: tuple[Name, ...] | None = None
    # For the rule `cascade`: the margin from which a voter is clear enough to be the last. None: the margin that served
    # the fit split best, or 0.2 without a fit split.
    margin: Annotated[float, Field(ge=0, le=1)] | None = None
    # Questions that are reduced at once; Ray Data groups more questions into several parts.
    part: Annotated[int, Field(ge=1)] = 25_000


class ReportSettings(Settings):
    """Additional measurements.

    Attributes:
        order_sensitivity: Voters whose accuracy is measured with the right choice swapped to A, B, C and D in turn
            (CodeMMLU, arXiv:2410.01999). This adds four times the inference, on questions with an answer and four
            choices.
        artefacts: Whether totals are given with and without the voters that read a defect of the file, or only with.
        mix: A file of questions, or weights by kind: totals are also given in that mix of kinds. Labels are not needed.
    """

    order_sensitivity: tuple[Name, ...] = ()
    artefacts: Literal["both", "only_with"] = "both"
    mix: str | dict[str, float] | None = None


class SubmissionSettings(Settings):
    """The settings of submission.csv.

    Attributes:
        blank: The text that is written where there is no answer.
        letters: The letters of each line, the likeliest first, for contests that score a ranking (MAP@3 has 3).
        sample: A sample submission, whose header and ids are taken; None: `task_id,answer`, in the source's order.
    """

    blank: str = ""
    letters: Annotated[int, Field(ge=1, le=26)] = 1
    sample: str | None = None
