"""The sections of report.json. docs/report-schema.json describes them, too; `report.json_schema` writes that file."""

from codemmlu.engine.adapter_store import Point
from codemmlu.report.evidence_results import ArtefactReport, KindReport, MixReport, Saving
from codemmlu.report.results import (
    Calibration,
    CoveragePoint,
    Interval,
    Leakage,
    OptionalSection,
    OracleBounds,
    OrderSensitivity,
    Pair,
    Section,
    Slices,
)
from codemmlu.voting.model import VoterFit
from codemmlu.voting.sums import EarlyExit, Failure

# In report.json the fields of several sections stand in one: of a class with several bases, those of the last base
# come first.


class Accuracies(Section):
    """How often a voter, or a rule, is right on labelled questions; a failed answer does not count.

    Attributes:
        accuracy: The share of right answers, with no answer counted as wrong; None without labels.
        accuracy_answered: The share of right answers among the answered questions.
        asked: The number of questions that count.
        interval: The 95 % interval of the accuracy (Wilson 1927).
        bootstrap: The same by the percentile bootstrap (Efron 1979).
    """

    accuracy: float | None
    accuracy_answered: float | None
    asked: int
    interval: Interval | None
    bootstrap: Interval | None


class Counts(Section):
    """How many questions a voter has which status on.

    Attributes:
        answered: It gives a letter.
        abstained: It was asked and gives none.
        failed: Its answer failed, or was never inferred.
        skipped: It was not asked, as the question was clear before.
    """

    answered: int
    abstained: int
    failed: int
    skipped: int


class Cost(Section):
    """What answers cost.

    Attributes:
        prompt_tokens: Tokens of all prompts.
        cached_tokens: Tokens of all prompts that were in the prefix cache.
        generated_tokens: Tokens that were generated, one for each reading.
        computed_tokens: Tokens that went through the model and were not in its prefix cache.
        readings: The number of readings.
        turns: The number of turns.
        seconds: The time during which at least one answer was in progress.
    """

    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    computed_tokens: int
    readings: int
    turns: int
    seconds: int | float  # 0 without answers


class VoterCalibration(Section):
    """How well a voter's confidence matches its accuracy.

    Attributes:
        as_said: With the probabilities as they are.
        fitted: With the voter's fitted temperature.
    """

    as_said: Calibration | None
    fitted: Calibration | None


class VoterNumbers(Cost, Counts, Accuracies):
    """The numbers of one voter, with the cost of all answers that it needs, as if it were the only voter.

    Attributes:
        above_chance_per_million_computed: The accuracy above guessing per million computed tokens.
        letters_said: How often each letter is predicted.
        coverage: The accuracy on the tenths of the questions that the voter is most confident of.
        calibration: How well its confidence matches its accuracy.
        letter_mass: The mean total probability of the letters in a reading.
        reading_alone: For the method `sample`, the accuracy of the one reading beside the replies.
    """

    above_chance_per_million_computed: float | None
    letters_said: dict[str, int]
    coverage: list[CoveragePoint]
    calibration: VoterCalibration
    letter_mass: float | None
    reading_alone: float | None


class VoterReport(VoterNumbers):
    """One voter: its numbers, and what it is made of, which is unknown of another system's file.

    Attributes:
        rank: One more than the number of voters that are significantly better; None without labels.
        ask: The name of its inference spec.
        model: The name of its model.
        adapter: The fingerprint of its LoRA weights.
        prior: Its letter prior: the share of each letter, by the number of choices.
        threshold: The fitted threshold of its checks.
        early_exit: The readings that it took and saved, where it exits early.
    """

    rank: int | None
    ask: str | None = None
    model: str | None = None
    adapter: str | None = None
    prior: dict[str, list[float]] | None = None
    threshold: float | None = None
    early_exit: EarlyExit | None = None


class _Rule(Section):
    rule: str


class VoteReport(Accuracies, _Rule):
    """The verdicts of the chosen rule.

    Attributes:
        rule: The rule.
        answered: The number of questions with a verdict.
        letters_said: How often each letter is the verdict.
        coverage: The accuracy on the tenths of the questions that the vote is most confident of.
        calibration: How well its confidence matches its accuracy.
        rank: As of a voter; None where there is one voter, and without labels.
    """

    answered: int
    letters_said: dict[str, int]
    coverage: list[CoveragePoint]
    calibration: Calibration | None
    rank: int | None = None


class RuleReport(Accuracies):
    """A rule that could have decided.

    Attributes:
        cross_validated: The accuracy on the fit split, with weights that had not seen the row.
    """

    cross_validated: float | None


class VoterWeights(VoterFit):
    """The fitted numbers of a voter.

    Attributes:
        agreed: The skill that agreement with the other voters shows.
    """

    agreed: float | None


class _Fit(Section):
    questions: int
    margin: float
    voters: dict[str, VoterWeights]


class FitReport(Cost, _Fit):
    """The fit of the vote, and the cost of the answers on the fit split.

    Attributes:
        questions: The number of questions of the fit split; 0 where nothing was fitted.
        margin: The margin of the rule `cascade`.
        voters: By voter, its fitted numbers.
    """


class TrainingReport(Section):
    """The training of the adapter that the recipe trains.

    Attributes:
        name: The adapter's name in the recipe.
        train_examples: The number of training examples.
        steps: Steps that were trained.
        best_step: The step whose weights were kept.
        backend: The library that trained.
        device: The name of the device.
        train: The training curve.
        tune: The curve of the tune part; its first point is from before the first step.
    """

    name: str
    train_examples: int
    steps: int
    best_step: int
    backend: str
    device: str
    train: tuple[Point, ...]
    tune: tuple[Point, ...]


class SubmissionReport(Section):
    """The file submission.csv.

    Attributes:
        rows: The number of rows.
        blank: How many of them have no answer.
    """

    rows: int
    blank: int


class ModelReport(Section):
    """A model that was asked.

    Attributes:
        source: Where the model comes from.
        parameters: The number of its parameters, where it is known.
    """

    source: str
    parameters: float | None = None


class Report(Section):
    """The results of a run. Accuracies and shares are from 0 to 1; null stands for a number that there is not.

    Attributes:
        questions: The number of questions that were asked.
        labelled: How many of them have a right answer.
        rejected: The number of rows that could not be asked; see rejected.parquet.
        notes: What cleaning changed.
        chance: The accuracy of guessing.
        letters_right: How often each letter is right.
        voters: By voter, its numbers.
        asks: By inference spec, the cost of its answers, which voters share.
        vote: The verdicts.
        rules: By rule, how it would have decided.
        fitted: The fit of the vote.
        comparisons: Every two voters; with several voters the vote is one of them.
        agreement: How often two voters name the same letter where both answer.
        slices: Accuracies by subject, number of choices and length.
        hindsight: Oracle bounds; null without labels.
        order_sensitivity: By voter of report.order_sensitivity, its accuracy by the right choice's letter.
        leakage: The questions that are among the examples; null where no voter looked at examples.
        training: The training of the recipe's adapter; null where no voter answers with one.
        failures: The answers that failed, at most 1,000.
        out: The run directory.
        submission: The file submission.csv.
        models: By name, the models that were asked.
        kinds: By kind of question, the numbers of all voters; only with voters that look at tools, and with report.mix.
        artefacts: The artefact voters and the vote without them; only with such voters.
        saved: By voter, the questions that a cascade spares it; only with voters that look at tools.
        mix: Totals in another mix of kinds; only with report.mix.
    """

    questions: int
    labelled: int
    rejected: int
    notes: list[str]
    chance: float | None
    letters_right: dict[str, int]
    voters: dict[str, VoterReport]
    asks: dict[str, Cost]
    vote: VoteReport
    rules: dict[str, RuleReport]
    fitted: FitReport
    comparisons: list[Pair]
    agreement: dict[str, dict[str, float | None]]
    slices: Slices
    hindsight: OracleBounds | None
    order_sensitivity: dict[str, OrderSensitivity] | None
    leakage: Leakage | None
    training: TrainingReport | None = None
    failures: list[Failure]
    out: str
    submission: SubmissionReport
    models: dict[str, ModelReport]
    kinds: OptionalSection[dict[str, KindReport]] = None
    artefacts: OptionalSection[ArtefactReport] = None
    saved: OptionalSection[dict[str, Saving]] = None
    mix: OptionalSection[MixReport] = None
