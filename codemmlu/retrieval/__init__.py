"""Retrieval: index solved examples, find the nearest ones to a question, and transfer their answers."""
