"""Voting: stored answers become votes, and the votes of all voters on a question become one verdict."""
