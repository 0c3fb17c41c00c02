"""The questions of a run and the examples beside them: each source is read and cleaned once.

questions.source -> clean -> [held out | labelled rest] -> store -> content keys, fit examples
                                          examples.source -> clean -> examples
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Protocol

from codemmlu.dataset.dedup import content_key
from codemmlu.dataset.examples import FIT, choose_holdout, is_same_source, read_examples
from codemmlu.dataset.loader import QuestionStream
from codemmlu.dataset.splits import assign
from codemmlu.errors import UserError
from codemmlu.recipe import Recipe, digest
from codemmlu.schema import Question, Rejected


class QuestionStore(Protocol):
    """A place for the accepted questions of a run, while the source is read and afterwards."""

    def add(self, question: Question) -> None:
        """Keep one question."""

    def finish(self) -> None:
        """Keep the questions that are still in memory."""

    def __iter__(self) -> Iterator[Question]:
        """Return the questions that are kept."""


class InMemory(list[Question]):
    """A store that holds all questions in this process."""

    add = list.append

    def finish(self) -> None:
        """Do nothing: every question is kept in memory for good."""


class QuestionSet:
    """The questions that a recipe asks, and the recipe's examples.

    Attributes:
        stream: The counts and notes of the pass over questions.source.
        rejected: The rows that cannot be asked, with the reasons.
        holdout: The task_ids that are asked, where one source is split into questions and examples; else None.
    """

    def __init__(self, recipe: Recipe, store: QuestionStore | None = None) -> None:
        """Read the source of the questions.

        Reading raises a UserError where the source cannot be read or holds no question that can be asked, or where a
        holdout leaves no example.

        Args:
            recipe: The recipe of the run.
            store: Keeps the questions; None where their content keys are enough.
        """
        self._recipe = recipe
        self._store = store
        self._keys: set[str] = set()
        self._split_rows: list[Question] = []
        self.rejected: list[Rejected] = []
        self.holdout: frozenset[str] | None = None
        self.stream = QuestionStream(recipe.questions)
        for row in self._split() if is_same_source(recipe.questions, recipe.examples) else self.stream.rows():
            if isinstance(row, Rejected):
                self.rejected.append(row)
            elif store is None:
                self._keys.add(content_key(row))
            else:
                store.add(row)
        # A rejected row has no claim to a task_id that a later row has: a grader refuses an id twice.
        claimed = self.stream.cleaner.has_claimed
        self.rejected = [replace(row, task_id=None) if claimed(row.task_id) else row for row in self.rejected]
        if store is not None:
            store.finish()

    def _split(self) -> Iterator[Question | Rejected]:
        """Read a source that a holdout splits, and return the questions that are asked and the rejected rows."""
        questions, holdout = self._recipe.questions, self._recipe.questions.holdout
        assert holdout is not None
        whole = QuestionStream(questions.model_copy(update={"limit": None}))
        rows = list(whole.rows())
        self._split_rows = [row for row in rows if isinstance(row, Question)]
        self.holdout = choose_holdout(self._split_rows, holdout)
        self.stream = QuestionStream(questions, self.holdout, cleaner=whole.cleaner)
        return self.stream.select(iter(rows))

    def __iter__(self) -> Iterator[Question]:
        """Return the questions that are asked."""
        assert self._store is not None, "the questions were not kept"
        return iter(self._store)

    @cached_property
    def content_keys(self) -> frozenset[str]:
        """The content keys of the questions that are asked, on which nothing may be trained or fitted."""
        return frozenset(self._keys if self._store is None else map(content_key, self))

    @cached_property
    def examples(self) -> tuple[Question, ...]:
        """The labelled questions of examples.source that are not held out, in file order."""
        return self._examples[0]

    @cached_property
    def example_notes(self) -> list[str]:
        """The notes of cleaning the examples, one line per kind."""
        return self._examples[1]

    @cached_property
    def _examples(self) -> tuple[tuple[Question, ...], list[str]]:
        settings = self._recipe.examples
        if self.holdout is None:
            rows, notes = read_examples(settings)
            return tuple(rows), notes
        chosen = self._split_rows[: settings.limit]
        kept = tuple(row for row in chosen if row.answer and row.task_id not in self.holdout)
        if not kept:
            raise UserError(f"{settings.source} has no question with an answer to learn from", key="examples.source")
        return kept, self.stream.notes("examples")

    @cached_property
    def fit_examples(self) -> tuple[Question, ...]:
        """The examples for fitting: `vote.fit.limit` of the fit split, none of which is asked.

        Raises:
            UserError: Every example of the fit split is asked.
        """
        recipe = self._recipe
        if recipe.vote.fit is None:
            return ()
        parts = assign(self.examples, recipe.seed)
        asked = self.content_keys
        rows = [
            q for q, part in zip(self.examples, parts, strict=True) if part == "fit" and content_key(q) not in asked
        ]
        if not rows:
            raise UserError("no example is left to fit on that is not asked itself; give more examples", key="vote.fit")
        rows.sort(key=lambda q: digest("fit", recipe.seed, q.question, q.choices, q.task_id))
        return tuple(replace(q, task_id=f"{FIT}{q.task_id}") for q in rows[: recipe.vote.fit.limit])
