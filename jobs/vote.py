"""The job that votes and reports on stored answers alone."""

from codemmlu.cli import steps
from codemmlu.cli.main import exit_with, main

ABOUT = """The vote alone: python jobs/vote.py RECIPE [key.path=value ...]

Votes again on what a run directory holds, by whatever rule, weights and calibration the recipe now names, and writes
the report. Needs no inference and no GPU; questions that were never asked count as failed.
"""

if __name__ == "__main__":
    exit_with(main("vote", ABOUT, steps.vote))
