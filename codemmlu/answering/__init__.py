"""Answering: what is asked of a model, and the worker that asks it."""
