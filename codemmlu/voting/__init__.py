"""Voting: what a voter makes of its ask's readings, and what all voters together make of a question."""
