"""Answers multiple-choice questions about code with language models, as one batch system on Ray."""

__version__ = "0.1.0"
