"""What answers cost: tokens, readings, turns and time, as sums that add up over partitions."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from codemmlu.schema import Answer

# The start and the end of a span of Unix time.
Span = tuple[float, float]


@dataclass(frozen=True)
class Costs:
    """The cost of some answers.

    Attributes:
        prompt_tokens: Tokens of all prompts.
        cached_tokens: Tokens of all prompts that were in the prefix cache.
        generated_tokens: Tokens that were generated, one for each reading.
        readings: The number of readings.
        turns: The number of turns.
        mass: The total probability of the letters, summed over all readings.
        under_way: The times at which at least one of the answers was in progress.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    readings: int = 0
    turns: int = 0
    mass: float = 0.0
    under_way: tuple[Span, ...] = ()

    @property
    def computed_tokens(self) -> int:
        """Return the number of tokens that went through the model and were not in its prefix cache."""
        return self.prompt_tokens - self.cached_tokens + self.generated_tokens

    @property
    def seconds(self) -> float:
        """Return the time during which at least one answer was in progress.

        Start-up, and the time between two attempts of a run, do not count.
        """
        return sum(end - start for start, end in self.under_way)


def cost_sums(answers: Iterable[Answer]) -> Costs:
    """Return what answers cost."""
    counted = list(answers)
    mass = 0.0
    for answer in counted:
        mass += sum(reading.mass for reading in answer.readings if math.isfinite(reading.mass))
    return Costs(
        prompt_tokens=sum(answer.prompt_tokens for answer in counted),
        cached_tokens=sum(answer.cached_tokens for answer in counted),
        generated_tokens=sum(answer.generated_tokens for answer in counted),
        readings=sum(len(answer.readings) for answer in counted),
        turns=sum(len(answer.turns) for answer in counted),
        mass=mass,
        under_way=together((answer.started, answer.started + answer.seconds) for answer in counted),
    )


def sum_costs(costs: Sequence[Costs]) -> Costs:
    """Return the sum of the costs of different answers."""
    return Costs(
        prompt_tokens=sum(cost.prompt_tokens for cost in costs),
        cached_tokens=sum(cost.cached_tokens for cost in costs),
        generated_tokens=sum(cost.generated_tokens for cost in costs),
        readings=sum(cost.readings for cost in costs),
        turns=sum(cost.turns for cost in costs),
        mass=sum(cost.mass for cost in costs),
        under_way=together(span for cost in costs for span in cost.under_way),
    )


def together(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return the union of time spans, as spans that do not touch."""
    union: list[Span] = []
    for start, end in sorted(spans):
        if union and start <= union[-1][1]:
            union[-1] = (union[-1][0], max(union[-1][1], end))
        else:
            union.append((start, end))
    return tuple(union)
