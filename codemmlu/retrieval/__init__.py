"""Retrieval: solved examples, the index that finds the nearest of them, and what they say of a question."""
