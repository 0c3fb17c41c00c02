"""The job that compares runs on the same questions."""

from codemmlu.cli import steps
from codemmlu.cli.main import exit_with, main_of_runs

ABOUT = """Runs compared: python jobs/report.py RUN [RUN ...]

Compares voters of the same name, and the verdicts, of runs on the same questions: who is right where the other is
wrong, with an exact test. Of one run it shows the table again. Every run's own report is in its report.html.
"""

if __name__ == "__main__":
    exit_with(main_of_runs("report", ABOUT, steps.compare))
