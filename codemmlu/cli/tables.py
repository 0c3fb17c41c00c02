"""The tables and lines that show a report in a terminal; names in a report are untrusted."""

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from codemmlu.cli.console import PREDICTED_LETTERS, plain_table
from codemmlu.errors import safe
from codemmlu.report.results import RunComparison
from codemmlu.report.schema import Accuracies, Report


def voters_table(report: Report) -> Table:
    """Return a table with a line per voter and, where there are several voters, a line for the vote."""
    several = len(report.voters) > 1
    ranked = several and report.labelled
    titles = ("accuracy", "95 % interval", "answered", "abstained", "failed", PREDICTED_LETTERS, "tokens", "q/s")
    table = plain_table(*(("rank",) if ranked else ()), *titles)
    for name, voter in report.voters.items():
        count = voter.answered + voter.abstained + voter.failed
        rate = f"{count / voter.seconds:.1f}" if voter.seconds else "-"
        counts = [f"{number:,}" for number in (voter.answered, voter.abstained, voter.failed)]
        tokens = f"{voter.prompt_tokens + voter.generated_tokens:,}"
        rank = [str(voter.rank)] if ranked else []
        table.add_row(_name(name), *rank, *_accuracy(voter), *counts, _letters(voter.letters_said), tokens, rate)
    if several:
        vote = report.vote
        rank = [str(vote.rank)] if ranked else []
        answered = [f"{vote.answered:,}", "", ""]
        predicted = _letters(vote.letters_said)
        table.add_row(f"vote: {vote.rule}", *rank, *_accuracy(vote), *answered, predicted, "", "")
    if report.chance is not None:
        guess = [*([""] if ranked else []), f"{report.chance:.3f}", "", "", "", ""]
        table.add_row("(guessing)", *guess, f"right: {_letters(report.letters_right)}", "", "", style="dim")
    return table


def weights_table(report: Report) -> Table:
    """Return a table of each voter's fitted parameters; no line where nothing was fitted."""
    table = plain_table("right on the fit split", "temperature", "weight in the pool", "skill", "skill by agreement")
    for name, fit in report.fitted.voters.items() if report.fitted.questions else ():
        share = f"{fit.right / fit.asked:.3f} of {fit.asked:,}" if fit.asked else "-"
        agreed = "-" if fit.agreed is None else f"{fit.agreed:.2f}"
        table.add_row(_name(name), share, f"{fit.temperature:.2f}", f"{fit.weight:.2f}", f"{fit.skill:.2f}", agreed)
    return table


def rules_table(report: Report) -> Table:
    """Return a table of every rule's accuracy, with the chosen rule marked; no line without labels."""
    table = plain_table("accuracy", "95 % interval", "on the fit split, cross-validated", first="rule")
    for name, rule in report.rules.items() if report.labelled else ():
        cross_validated = rule.cross_validated
        chosen = " (chosen)" if name == report.vote.rule else ""
        table.add_row(f"{name}{chosen}", *_accuracy(rule), "-" if cross_validated is None else f"{cross_validated:.3f}")
    return table


def comparison_table(report: RunComparison) -> Table:
    """Return a table of paired differences between runs, with a line per voter and pair of runs."""
    titles = ("from", "to", "questions", "first", "second", "difference", "95 % interval", "right to wrong")
    table = plain_table(*titles, "wrong to right", "p, corrected", "same letter")
    for pair in report.comparisons:
        same = "-" if pair.same_letter is None else f"{pair.same_letter:.3f}"
        names = (_name(pair.voter), _name(pair.first), _name(pair.second))
        if pair.interval is None:
            table.add_row(*names, "0", "-", "-", "-", "-", "-", "-", "-", same)
            continue
        low, high = pair.interval
        table.add_row(
            *names,
            f"{pair.asked:,}",
            f"{pair.first_accuracy:.3f}",
            f"{pair.second_accuracy:.3f}",
            f"{pair.difference:+.3f}",
            f"{low:+.3f} to {high:+.3f}",
            f"{pair.only_first:,}",
            f"{pair.only_second:,}",
            f"{pair.p_holm:.3f}",
            same,
        )
    return table


def cost_table(report: Report) -> Table:
    """Return a table of each voter's cost as if the voter were alone, and of each voter's worth.

    The worth is the accuracy above guessing per million computed tokens.
    """
    table = plain_table("computed", "cached", "generated", "readings", "turns", "seconds", "worth per 1M computed")
    for name, voter in report.voters.items():
        counts = (voter.computed_tokens, voter.cached_tokens, voter.generated_tokens, voter.readings, voter.turns)
        worth = voter.above_chance_per_million_computed
        numbers = [f"{count:,}" for count in counts]
        table.add_row(_name(name), *numbers, f"{voter.seconds:,.0f}", "-" if worth is None else f"{worth:.2f}")
    return table


def order_lines(report: Report) -> list[str]:
    """Return lines on order sensitivity and on readings that early exits saved; none without either."""
    lines = []
    for name, voter in report.voters.items():
        if voter.reading_alone is not None:
            lines.append(f"{safe(name, 40)}: {voter.reading_alone:.3f} by the one reading beside its replies")
        if early := voter.early_exit:
            saved = 1 - early.readings / early.of if early.of else 0.0
            lines.append(
                f"{safe(name, 40)}: {early.exited:,} questions were clear early, which saved {saved:.0%} of "
                f"{early.of:,} readings"
            )
    for name, measured in (report.order_sensitivity or {}).items():
        if measured.std is not None:
            known = [(letter, value) for letter, value in measured.accuracy.items() if value is not None]
            accuracies = ", ".join(f"{letter} {value:.3f}" for letter, value in known)
            lines.append(
                f"{safe(name, 40)}: order sensitivity {measured.std:.3f}, the standard deviation of its accuracy "
                f"with the right choice at {accuracies} ({measured.asked:,} questions)"
            )
    return lines


def leakage_lines(report: Report) -> list[str]:
    """Return lines on questions that are among the examples; none where no voter uses examples."""
    table = report.leakage
    if not table or not table.near_verbatim:
        return []
    lines = [
        f"{table.verbatim:,} of {table.looked_up:,} questions appear verbatim among the examples, "
        f"{table.near_verbatim:,} so or at a similarity of {table.threshold} and more."
    ]
    for name, parts in table.voters.items():
        if parts.leaked.accuracy is not None and parts.rest.accuracy is not None:
            lines.append(
                f"  {safe(name, 40)}: {parts.leaked.accuracy:.3f} on those, "
                f"{parts.rest.accuracy:.3f} on the other {parts.rest.asked:,}"
            )
    return lines


def _name(name: str) -> Text:
    """Return a name as plain text, in which nothing counts as rich's markup."""
    return Text(safe(name, 40))


def _accuracy(numbers: Accuracies) -> tuple[str, str]:
    if numbers.accuracy is None or numbers.interval is None:
        return "-", "no labels"
    low, high = numbers.interval
    return f"{numbers.accuracy:.3f}", f"{low:.3f} to {high:.3f}"


def _letters(counts: Mapping[str, int]) -> str:
    return " ".join(f"{letter} {count}" for letter, count in counts.items())
