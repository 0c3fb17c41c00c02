"""The schedule: what is asked of which pool, and what has to wait for what.

A pool of engines is started once and asked in waves. What waits for nothing is in its first wave; a reading that exits
early waits for its pilot, a cascade for the voters whose doubt it answers. Of another pool it waits for the whole pass.
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
    """One ask of some questions.

    questions: None: of all that are asked; when: of those that other voters leave unclear
    swaps: with the right choice moved to each letter, instead of as they stand
    after: what has to be estimated before it asks
    """

    ask: InferenceSpec
    split: Split = "test"
    questions: tuple[Question, ...] | None = None
    when: WhenSettings | None = None
    swaps: bool = False
    after: Calibration | None = None


Stage = tuple[InferenceTask, ...]


@dataclass(frozen=True)
class PoolSession:
    """One start of a pool: its waves, each of which waits until the one before is durable."""

    pool: str
    waves: tuple[Stage, ...]


def plan_sessions(
    voters: Sequence[ResolvedVoter], swapped_voters: Sequence[str], fit: tuple[Question, ...] = ()
) -> list[PoolSession]:
    """In which order pools are started, and what each is asked in which wave.

    swapped_voters: those asked with the right choice moved, too; fit: examples that every voter is asked besides
    """
    planned: list[PoolSession] = []
    done: set[str] = set()
    while waiting := [voter for voter in voters if voter.name not in done]:
        pools = dict.fromkeys(voter.pool for voter in waiting)
        ready = {pool: _depths([voter for voter in waiting if voter.pool == pool], done) for pool in pools}
        whole = [pool for pool in pools if len(ready[pool]) == sum(voter.pool == pool for voter in waiting)]
        pool = next(iter(whole), None) or next(pool for pool in pools if ready[pool])
        its = [voter for voter in waiting if voter.name in ready[pool]]
        planned.append(PoolSession(pool, _waves(its, ready[pool], swapped_voters, fit)))
        done |= set(ready[pool])
    return planned


def concurrent_groups(
    planned: Sequence[PoolSession], voters: Mapping[str, ResolvedVoter]
) -> list[tuple[PoolSession, ...]]:
    """Passes in groups, one group after another: within one no pass waits for what another answers."""
    groups: list[tuple[PoolSession, ...]] = []
    for one in planned:
        before = {pool for name in _waited_for(one) if (pool := voters[name].pool) != one.pool}
        running = {other.pool for other in groups[-1]} if groups else {one.pool}
        if running & {one.pool, *before}:
            groups.append((one,))
        else:
            groups[-1] += (one,)
    return groups


def _waited_for(one: PoolSession) -> set[str]:
    return {name for wave in one.waves for asking in wave if asking.when for name in asking.when.of}


def _depths(voters: Sequence[ResolvedVoter], done: set[str]) -> dict[str, int]:
    """In which wave each of a pool's voters is asked; those that wait for another pool are left out."""
    depths: dict[str, int] = {}
    grew = True
    while grew:
        grew = False
        for voter in voters:
            when = when_of(voter.settings)
            of = set(when.of) - done if when else set()
            if voter.name not in depths and of <= set(depths):
                first = 1 if voter.waits else 0
                depths[voter.name] = max([first, *(depths[name] + 1 for name in of)])
                grew = True
    return depths


def _waves(
    voters: Sequence[ResolvedVoter], depths: dict[str, int], swapped_voters: Sequence[str], fit: tuple[Question, ...]
) -> tuple[Stage, ...]:
    waves: list[dict[InferenceTask, None]] = [{} for _ in range(max(depths.values()) + 1)]  # dicts: in order, once each
    for voter in voters:
        wave, calibration = waves[depths[voter.name]], voter.calibration
        if calibration and calibration.questions is not None:
            waves[0][InferenceTask(calibration.ask, calibration.split, calibration.questions)] = None
        after = calibration if voter.waits else None
        wave[InferenceTask(voter.ask, when=when_of(voter.settings), after=after)] = None
        if fit:
            wave[InferenceTask(voter.ask, "fit", fit, when_of(voter.settings), after=after)] = None
        if voter.name in swapped_voters:
            wave[InferenceTask(voter.ask, split="swap", swaps=True, after=after)] = None
    return tuple(tuple(wave) for wave in waves)


def items(run: RunDir, wave: Stage, unclear: Callable[[WhenSettings], Container[str]]) -> Iterator[WorkItem]:
    """What a wave asks, each ask of a question once; a question may come more than once, for different asks.

    unclear: the task_ids that a condition lets through
    """
    let_through = {asking: unclear(asking.when) for asking in wave if asking.when}
    listed: set[str] = set()  # the keys of pilots and examples: few, where the run's questions may be millions
    for asking in wave:
        for question in asking.questions or ():
            key = asking.ask.key(question)
            if key not in listed and (not asking.when or question.task_id in let_through[asking]):
                listed.add(key)
                yield WorkItem(question, asking.split, (asking.ask,))
    everywhere = [asking for asking in wave if asking.questions is None and not asking.swaps]
    moved = tuple(asking.ask for asking in wave if asking.swaps)
    for question in stored_questions(run):
        its = [a.ask for a in everywhere if not a.when or question.task_id in let_through[a]]
        yield from _unlisted([WorkItem(question, "test", tuple(its)), *_swaps(question, moved)], listed)


def _swaps(question: Question, asks: tuple[InferenceSpec, ...]) -> Iterator[WorkItem]:
    if asks:
        yield from (WorkItem(one, "swap", asks) for to in SWAPPED if (one := with_answer_at(question, to)))


def _unlisted(same: Sequence[WorkItem], listed: Container[str]) -> Iterator[WorkItem]:
    """The items of one question with each ask once: its right choice may stand at A before it is moved there."""
    seen: set[str] = set()
    for item in same:
        asks = dict(zip(item.keys, item.asks, strict=True))
        if fresh := tuple(ask for key, ask in asks.items() if key not in seen and key not in listed):
            yield item if fresh == item.asks else replace(item, asks=fresh)
        seen |= asks.keys()
