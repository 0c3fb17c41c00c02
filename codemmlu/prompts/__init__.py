"""Prompts: our words, before any model's chat template. One renderer for training, retrieval and inference."""

from codemmlu.prompts.render import Message, Prompt, render, render_after, render_check, render_thought
from codemmlu.prompts.templates import TEMPLATES, template_digest, words_digest

__all__ = [
    "TEMPLATES",
    "Message",
    "Prompt",
    "render",
    "render_after",
    "render_check",
    "render_thought",
    "template_digest",
    "words_digest",
]
