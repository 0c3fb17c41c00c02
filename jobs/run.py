"""The whole run: python jobs/run.py RECIPE [key.path=value ...]

Everything a recipe asks for, in order, skipping what is done: its questions are read and cleaned, asked of every
voter's model, voted on and reported. Stop it anywhere; the same command continues.
"""

import sys

from codemmlu.cli import steps
from codemmlu.cli.main import main

if __name__ == "__main__":
    sys.exit(main("run", __doc__, steps.run))
