"""The results on kinds of questions and on voters that look at tools, as report.json holds them."""

from codemmlu.report.results import Interval, Section


class KindNumbers(Section):
    """How often a voter, or the vote, is right on the questions of one kind.

    Attributes:
        answered: The number of questions with a letter.
        right: The number of right answers.
        asked: The number of labelled questions that count.
        accuracy: The share of right answers, with no answer counted as wrong; None without labels.
        accuracy_answered: The share of right answers among the answered questions.
        interval: The 95 % interval of the accuracy (Wilson 1927).
    """

    answered: int
    right: int
    asked: int
    accuracy: float | None
    accuracy_answered: float | None
    interval: Interval | None


class KindReport(Section):
    """The questions of one kind.

    Attributes:
        questions: The number of questions.
        labelled: How many of them have a right answer.
        voters: By voter, its numbers.
        vote: The numbers of the verdicts.
    """

    questions: int
    labelled: int
    voters: dict[str, KindNumbers]
    vote: KindNumbers


class MixTotal(Section):
    """A total in another mix of kinds.

    Attributes:
        accuracy: The accuracy by kind, weighted by the share of the kind; None where a kind has no labelled question.
        interval: The stratified 95 % interval of the accuracy.
    """

    accuracy: float | None
    interval: Interval | None


class MixReport(Section):
    """Totals in the mix of kinds of report.mix.

    Attributes:
        shares: By kind, its share.
        voters: By voter, its total.
        vote: The total of the verdicts.
    """

    shares: dict[str, float]
    voters: dict[str, MixTotal]
    vote: MixTotal


class VoteWithout(Section):
    """The verdicts of all voters but the artefact voters, with a fit of their own.

    Attributes:
        accuracy: The share of right answers, with no answer counted as wrong; None without labels.
        interval: The 95 % interval of the accuracy (Wilson 1927).
        answered: The number of questions with a verdict.
    """

    accuracy: float | None
    interval: Interval | None
    answered: int


class ArtefactReport(Section):
    """The voters that read a defect of how the file was made, and not the problem.

    Attributes:
        voters: Their names.
        vote_without: The verdicts without them; None where no such total exists.
    """

    voters: list[str]
    vote_without: VoteWithout | None


class Saving(Section):
    """What a cascade saves for one voter.

    Attributes:
        skipped: The questions that the voter is not asked, as they were clear before.
        prompt_tokens: About how many tokens their prompts would have had, by the mean length per character of the
            questions that it is asked; None where it is asked none.
    """

    skipped: int
    prompt_tokens: int | None
