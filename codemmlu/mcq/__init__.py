"""The multiple-choice core: it renders prompts and turns replies into probabilities over choices. Pure numpy.

Training, retrieval and inference share one renderer. The engine puts each model's chat template around the messages.
"""

from codemmlu.mcq.conversation import p_true, ranked, shares, verified
from codemmlu.mcq.letter_prior import Prior, estimate, of_size
from codemmlu.mcq.permutations import Readings, orders
from codemmlu.mcq.probabilities import Probabilities, choice_probabilities, is_finite, margin, mean, pick
from codemmlu.mcq.prompt import Message, Prompt, render, render_after, render_check, render_thought
from codemmlu.mcq.templates import (
    AFTER_THINKING,
    TEMPLATES,
    check_wording,
    template_digest,
    thinking_wording,
    wording_digest,
)

__all__ = [
    "AFTER_THINKING",
    "TEMPLATES",
    "Message",
    "Prior",
    "Probabilities",
    "Prompt",
    "Readings",
    "check_wording",
    "choice_probabilities",
    "estimate",
    "is_finite",
    "margin",
    "mean",
    "of_size",
    "orders",
    "p_true",
    "pick",
    "ranked",
    "render",
    "render_after",
    "render_check",
    "render_thought",
    "shares",
    "template_digest",
    "thinking_wording",
    "verified",
    "wording_digest",
]
