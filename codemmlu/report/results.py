"""The results of the statistics, as report.json and jobs/report.py hold them.

Users' scripts read report.json, so a field keeps its name and its place. A field that is added later has a default, so
that a file from before is still read.
"""

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")

# The lower and the upper end of a 95 % interval.
Interval = tuple[float, float]
# A section that only some runs have: report.json of any other run is without its key.
OptionalSection = Annotated[T | None, Field(exclude_if=lambda section: section is None)]


class Section(BaseModel):
    """A part of report.json; a key that this version does not know is kept as it is."""

    # A dry run imports these classes and uses none: their validators are built when they are first needed.
    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)


class Pair(Section):
    """Two voters on the labelled questions that both were asked and did not fail on.

    Attributes:
        first: The first voter.
        second: The second voter.
        asked: The number of these questions.
        both_right: How many both have right.
        only_first: How many the first voter alone has right.
        only_second: How many the second voter alone has right.
        both_wrong: How many neither has right.
        difference: The accuracy of the second voter minus that of the first; None without questions.
        interval: The 95 % interval of the difference.
        p: The exact two-sided McNemar test (1947).
        p_holm: The same, corrected for the number of pairs (Holm 1979).
    """

    first: str
    second: str
    asked: int
    both_right: int
    only_first: int
    only_second: int
    both_wrong: int
    difference: float | None
    interval: Interval | None
    p: float
    p_holm: float


class CalibrationBin(Section):
    """The answers whose confidence is in one tenth of the range from 0 to 1.

    Attributes:
        count: The number of answers.
        said: The mean confidence.
        right: The share of right answers.
    """

    count: int
    said: float
    right: float


class Calibration(Section):
    """The expected calibration error, over bins of equal width (Guo et al. 2017).

    Attributes:
        error: The mean distance of confidence and accuracy, weighted by the questions of the bins.
        bins: The bins that have answers.
    """

    error: float
    bins: list[CalibrationBin]


class CoveragePoint(Section):
    """The accuracy on the questions that a voter is most confident of.

    Attributes:
        coverage: The share of the questions.
        accuracy: The accuracy on these questions.
        surer_than: The least confidence among them.
    """

    coverage: float
    accuracy: float
    surer_than: float


class Slice(Section):
    """Accuracies on a part of the labelled questions.

    Attributes:
        name: The subject, the number of choices, or the range of lengths.
        questions: The number of labelled questions.
        voters: Each voter's accuracy; None where the voter was asked none of them.
        vote: The vote's accuracy.
    """

    name: str
    questions: int
    voters: dict[str, float | None]
    vote: float | None = None


class Slices(Section):
    """Accuracies by kind of question.

    Attributes:
        subject: By subject, the most frequent one first.
        choices: By number of choices.
        characters: By length of the question with its choices, in quarters.
    """

    subject: list[Slice]
    choices: list[Slice]
    characters: list[Slice]


class BestSubset(Section):
    """The set of voters whose majority is right most often.

    Attributes:
        voters: The voters of the set.
        accuracy: The accuracy of their majority, with ties broken by confidence.
    """

    voters: list[str]
    accuracy: float


class OracleBounds(Section):
    """What knowing the right letters would have achieved: a bound, not a result.

    Attributes:
        oracle: The share of questions on which any voter is right.
        best_subset: None for a single voter, and where trying all sets takes too long.
    """

    oracle: float
    best_subset: BestSubset | None


class OrderSensitivity(Section):
    """A voter's accuracy with the right choice moved to each letter (arXiv:2410.01999).

    Attributes:
        asked: The most questions that were asked for one letter.
        accuracy: The accuracy by letter; None where no question was asked.
        std: The standard deviation over the letters; None without accuracies.
    """

    asked: int
    accuracy: dict[str, float | None]
    std: float | None


class AskedAccuracy(Section):
    """An accuracy, and of how many questions it is.

    Attributes:
        asked: The number of questions.
        accuracy: None without questions.
    """

    asked: int
    accuracy: float | None


class LeakageSplit(Section):
    """A voter's accuracy with and without the questions that are among the examples.

    Attributes:
        leaked: On the questions that are among the examples.
        rest: On the other questions that were looked up.
    """

    leaked: AskedAccuracy
    rest: AskedAccuracy


class Leakage(Section):
    """The questions that are among the examples.

    Attributes:
        looked_up: The number of questions that a voter looked at examples for.
        verbatim: How many have the normalised text of an example.
        near_verbatim: How many have that, or a similarity of at least `threshold` to an example.
        threshold: The cosine similarity from which two questions count as near-duplicates.
        voters: By voter, its accuracies.
    """

    looked_up: int
    verbatim: int
    near_verbatim: int
    threshold: float
    voters: dict[str, LeakageSplit]


class _OfVoter(Section):
    voter: str


class RunPair(Pair, _OfVoter):  # Fields of the last base come first.
    """Two runs compared by a voter that both have.

    Attributes:
        voter: The voter, or `vote` for the verdicts.
        first_accuracy: The voter's accuracy in the first run; None without labelled questions.
        second_accuracy: The same in the second run.
        same_letter: The share of equal letters where both runs have one; None where there is no such question.
    """

    first_accuracy: float | None
    second_accuracy: float | None
    same_letter: float | None


class RunComparison(Section):
    """The result of jobs/report.py for several runs.

    Attributes:
        runs: The address of each run by its name.
        questions: The number of questions.
        labelled: How many of them are labelled.
        comparisons: Every two runs, by each voter that both have.
    """

    runs: dict[str, str]
    questions: int
    labelled: int
    comparisons: list[RunPair]
