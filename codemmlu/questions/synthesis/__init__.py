"""Verified questions about Python: generated programs whose right answers are right because they were run."""

from codemmlu.questions.synthesis.generate import generate
from codemmlu.questions.synthesis.prove import prove

__all__ = ["generate", "prove"]
