"""The job that builds the index of solved examples."""

from codemmlu.cli import steps
from codemmlu.cli.main import exit_with, main

ABOUT = """Makes the index of solved examples: python jobs/index.py RECIPE [key.path=value ...]

Embeds the labelled rows of examples.source and keeps them in the run directory, or where examples.index says. An index
whose inputs did not change is reused. jobs/run.py and jobs/answer.py do this themselves when a voter needs it.
"""

if __name__ == "__main__":
    exit_with(main("index", ABOUT, steps.index))
