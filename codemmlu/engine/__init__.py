"""Engines: where models come from, which hardware they get, and vLLM behind a small Protocol."""
