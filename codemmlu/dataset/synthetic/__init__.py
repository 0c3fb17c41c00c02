"""Verified questions about Python: generated programs whose right answers are right because they were run."""

from codemmlu.dataset.synthetic.generate import generate
from codemmlu.dataset.synthetic.verification import verify

__all__ = ["generate", "verify"]
