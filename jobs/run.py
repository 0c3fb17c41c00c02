"""The job that does everything that a recipe asks for."""

from codemmlu.cli import steps
from codemmlu.cli.main import exit_with, main

ABOUT = """The whole run: python jobs/run.py RECIPE [key.path=value ...]

Everything a recipe asks for, in order, skipping what is done: its questions are read and cleaned, asked of every
voter's model, voted on and reported. Stop it anywhere; the same command continues.
"""

if __name__ == "__main__":
    exit_with(main("run", ABOUT, steps.run))
