"""The letter mass: whether a model answers letters at all after the prompts of its voters.

The letters of a healthy model hold most of the probability after a prompt (0.87 was measured), those of a model that
does not see the question little (0.09), and those of random weights nothing (0.000). Their ratio, which the answer is
taken from, means nothing then, so the first answers of each spec decide whether a run goes on.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from codemmlu.errors import Progress, UserError
from codemmlu.inference.methods import METHODS
from codemmlu.run_dir import RunDir

ENOUGH = 64  # answers
LOW, NOTHING = 0.5, 0.02

# The sums over one block of answers: spec, number of answers, sum of the letter masses of their first readings.
_COLUMNS = ["ask", "split", "status", "readings"]
SUMS = pa.list_(pa.struct([("ask", pa.string()), ("answers", pa.int64()), ("mass", pa.float64())]))


def sums_of(answers: pa.Table) -> list[dict[str, Any]]:
    """Return the number of answers and the sum of their letter masses by spec, as rows of SUMS.

    Args:
        answers: Answer rows, or their columns `ask`, `split`, `status` and `readings`.
    """
    totals: dict[str, tuple[int, float]] = defaultdict(lambda: (0, 0.0))
    for row in answers.select(_COLUMNS).to_pylist():
        if row["status"] != "failed" and row["split"] != "null" and METHODS[_method(row["ask"])].reads_letters:
            count, mass = totals[row["ask"]]
            totals[row["ask"]] = count + 1, mass + row["readings"][0]["mass"]
    return [{"ask": ask, "answers": count, "mass": mass} for ask, (count, mass) in totals.items()]


def _method(ask: str) -> str:
    return ask.rpartition("-")[0]


class LetterMass:
    """The letter masses of one pool's specs, with the decision on each."""

    def __init__(self, progress: Progress, model: str, voters: Mapping[str, str], allow_low: bool) -> None:
        """Begin without answers.

        Args:
            progress: Where a low letter mass is reported.
            model: The name of the model in the recipe.
            voters: The names of the voters by spec.
            allow_low: The recipe's models.NAME.allow_low_mass.
        """
        self._progress, self._model, self._voters, self._allow_low = progress, model, voters, allow_low
        self._totals: dict[str, tuple[int, float]] = defaultdict(lambda: (0, 0.0))
        self._decided: set[str] = set()

    def add(self, sums: Iterable[Mapping[str, Any]], least: int = ENOUGH) -> None:
        """Add the sums of a block, and decide on each spec with at least `least` answers, once.

        A spec whose letters hold next to nothing is a UserError, unless the recipe allows that.

        Args:
            sums: Rows of SUMS.
            least: Answers from which on a spec is decided on.
        """
        for row in sums:
            count, mass = self._totals[row["ask"]]
            self._totals[row["ask"]] = count + row["answers"], mass + row["mass"]
        for ask, (count, mass) in self._totals.items():
            if count >= least and ask in self._voters and ask not in self._decided:
                self._decided.add(ask)
                self._decide(self._voters[ask], mass / count, count)

    def add_stored(self, run: RunDir) -> None:
        """Decide on what is stored of each spec: on its first answers where there are many, else on all of them."""
        for name in run.files(f"answers/{self._model}"):
            left = self._voters.keys() - self._decided
            if not left:
                return
            if not left.isdisjoint(run.read_table(name, ["ask"])["ask"].to_pylist()):
                self.add(sums_of(run.read_table(name, _COLUMNS)))
        self.add((), least=1)

    def _decide(self, voter: str, mean: float, count: int) -> None:
        if mean >= LOW:
            return
        found = (
            f"models.{self._model}: the letters hold only {mean:.3f} of the probability in the first {count:,} answers "
            f"of voters.{voter}"
        )
        if mean < NOTHING and not self._allow_low:
            raise UserError(
                f"{found}: the model does not answer the questions, so its answers mean nothing; look at its chat "
                f"template, its weights and its adapter, or set models.{self._model}.allow_low_mass=true"
            )
        self._progress.say(
            f"WARNING: {found} (a healthy model: more than {LOW}); it may not see the question as it should: look at "
            f"its chat template, voters.{voter}.template and its weights"
        )
