"""Prompts: our words, before any model's chat template. One renderer for training, retrieval and inference."""

from codemmlu.prompts.render import Message, Prompt, render
from codemmlu.prompts.templates import TEMPLATES, template_digest

__all__ = ["TEMPLATES", "Message", "Prompt", "render", "template_digest"]
