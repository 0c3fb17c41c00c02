"""Engines: where models come from, what hardware they get, and vLLM behind a small Protocol."""
