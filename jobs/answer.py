"""The job that answers a recipe's questions with every voter's model, and reports."""

from codemmlu.cli import steps
from codemmlu.cli.main import exit_with, main

ABOUT = """Answers questions: python jobs/answer.py RECIPE [key.path=value ...]

Asks every voter's model what has no durable answer yet, then writes submission.csv and report.json from what is there.
"""

if __name__ == "__main__":
    exit_with(main("answer", ABOUT, steps.answer))
