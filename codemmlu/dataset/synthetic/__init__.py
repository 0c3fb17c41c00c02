"""Verified questions about Python: programs are generated and run, and the runs prove the answers."""

from codemmlu.dataset.synthetic.generate import generate
from codemmlu.dataset.synthetic.verification import verify

__all__ = ["generate", "verify"]
