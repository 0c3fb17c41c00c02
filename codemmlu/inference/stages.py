"""The schedule: which pool answers what, and what has to wait for what.

A pool of engines is started once and answers in stages. What waits for nothing is in the first stage; a reading that
exits early waits for its pilot, and a cascade for the voters whose doubt it settles. Where these are in another pool,
the cascade waits for that pool's whole session.
"""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from codemmlu.dataset.label_position import SWAPPED, with_answer_at
from codemmlu.dataset.stored import stored_questions
from codemmlu.inference.backlog import WorkItem
from codemmlu.inference.calibration import Calibration
from codemmlu.inference.spec import InferenceSpec
from codemmlu.inference.voters import ResolvedVoter
from codemmlu.recipe import WhenSettings, when_of
from codemmlu.run_dir import RunDir
from codemmlu.schema import Question, Split


@dataclass(frozen=True)
class InferenceTask:
    """Some questions to be answered under one spec.

    Attributes:
        spec: The spec.
        split: The purpose of the questions.
        questions: The questions; None: all questions of the run.
        when: Restricts the questions to those that other voters leave unclear.
        swaps: Whether the right choice is moved to each letter, instead of the choices as they are.
        after: What has to be estimated before the task can run.
    """

    spec: InferenceSpec
    split: Split = "test"
    questions: tuple[Question, ...] | None = None
    when: WhenSettings | None = None
    swaps: bool = False
    after: Calibration | None = None


Stage = tuple[InferenceTask, ...]


@dataclass(frozen=True)
class PoolSession:
    """One start of a pool, with its stages: each waits until the one before is durable."""

    pool: str
    stages: tuple[Stage, ...]


def plan_sessions(
    voters: Sequence[ResolvedVoter], swapped_voters: Sequence[str], fit: tuple[Question, ...] = ()
) -> list[PoolSession]:
    """Plan in which order pools are started, and what each pool answers in which stage.

    Args:
        voters: All voters of the run.
        swapped_voters: Names of the voters that also answer with the right choice moved.
        fit: Examples that every voter answers in addition to the questions.

    Returns:
        The sessions, in order; a pool has several where it waits for another pool in between.
    """
    sessions: list[PoolSession] = []
    done: set[str] = set()
    while waiting := [voter for voter in voters if voter.name not in done]:
        pools = dict.fromkeys(voter.pool for voter in waiting)
        ready = {pool: _depths([voter for voter in waiting if voter.pool == pool], done) for pool in pools}
        whole = [pool for pool in pools if len(ready[pool]) == sum(voter.pool == pool for voter in waiting)]
        pool = next(iter(whole), None) or next(pool for pool in pools if ready[pool])
        planned = [voter for voter in waiting if voter.name in ready[pool]]
        sessions.append(PoolSession(pool, _stages(planned, ready[pool], swapped_voters, fit)))
        done |= set(ready[pool])
    return sessions


def concurrent_groups(
    planned: Sequence[PoolSession], voters: Mapping[str, ResolvedVoter]
) -> list[tuple[PoolSession, ...]]:
    """Group sessions that may run at the same time: none waits for the answers of another in its group.

    Args:
        planned: The sessions, in order.
        voters: All voters of the run, by name.

    Returns:
        The groups, in the order in which they run.
    """
    groups: list[tuple[PoolSession, ...]] = []
    for session in planned:
        before = {pool for name in _waited_for(session) if (pool := voters[name].pool) != session.pool}
        running = {other.pool for other in groups[-1]} if groups else {session.pool}
        if running & {session.pool, *before}:
            groups.append((session,))
        else:
            groups[-1] += (session,)
    return groups


def _waited_for(session: PoolSession) -> set[str]:
    return {name for stage in session.stages for task in stage if task.when for name in task.when.names}


def _depths(voters: Sequence[ResolvedVoter], done: set[str]) -> dict[str, int]:
    """Return the stage number of each of a pool's voters, except of those that wait for another pool."""
    depths: dict[str, int] = {}
    grew = True
    while grew:
        grew = False
        for voter in voters:
            when = when_of(voter.settings)
            of = set(when.names) - done if when else set()
            if voter.name not in depths and of <= set(depths):
                first = 1 if voter.waits else 0
                depths[voter.name] = max([first, *(depths[name] + 1 for name in of)])
                grew = True
    return depths


def _stages(
    voters: Sequence[ResolvedVoter], depths: dict[str, int], swapped_voters: Sequence[str], fit: tuple[Question, ...]
) -> tuple[Stage, ...]:
    # Each stage is a dict for the sake of its keys: an ordered set.
    stages: list[dict[InferenceTask, None]] = [{} for _ in range(max(depths.values()) + 1)]
    for voter in voters:
        stage, calibration = stages[depths[voter.name]], voter.calibration
        if calibration and calibration.source != "own":
            stages[0][InferenceTask(calibration.spec, calibration.split, calibration.questions)] = None
        after = calibration if voter.waits else None
        stage[InferenceTask(voter.spec, when=when_of(voter.settings), after=after)] = None
        if fit:
            stage[InferenceTask(voter.spec, "fit", fit, when_of(voter.settings), after=after)] = None
        if voter.name in swapped_voters:
            stage[InferenceTask(voter.spec, split="swap", swaps=True, after=after)] = None
    return tuple(tuple(stage) for stage in stages)


def items(run: RunDir, stage: Stage, unclear: Callable[[WhenSettings], Container[str]]) -> Iterator[WorkItem]:
    """Return the work items of a stage, with each pair of a question and a spec once.

    Args:
        run: The run directory.
        stage: The tasks.
        unclear: Returns the task_ids that a condition lets through.

    Yields:
        The items; a question may come more than once, under different specs.
    """
    let_through = {task: unclear(task.when) for task in stage if task.when}
    listed: set[str] = set()  # The keys of pilots and examples: few, where the run's questions may be millions.
    for task in stage:
        for question in task.questions or ():
            key = task.spec.key(question)
            if key not in listed and (not task.when or question.task_id in let_through[task]):
                listed.add(key)
                yield WorkItem(question, task.split, (task.spec,))
    everywhere = [task for task in stage if task.questions is None and not task.swaps]
    swapped = tuple(task.spec for task in stage if task.swaps)
    for question in stored_questions(run):
        specs = [task.spec for task in everywhere if not task.when or question.task_id in let_through[task]]
        yield from _unlisted([WorkItem(question, "test", tuple(specs)), *_swaps(question, swapped)], listed)


def _swaps(question: Question, specs: tuple[InferenceSpec, ...]) -> Iterator[WorkItem]:
    if specs:
        moved = (with_answer_at(question, letter) for letter in SWAPPED)
        yield from (WorkItem(swap, "swap", specs) for swap in moved if swap)


def _unlisted(same: Sequence[WorkItem], listed: Container[str]) -> Iterator[WorkItem]:
    """Return the items of one question with each key once."""
    seen: set[str] = set()  # The right choice may be at A before it is moved there.
    for item in same:
        specs = dict(zip(item.keys, item.asks, strict=True))
        if fresh := tuple(spec for key, spec in specs.items() if key not in seen and key not in listed):
            yield item if fresh == item.asks else replace(item, asks=fresh)
        seen |= specs.keys()
