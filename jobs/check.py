"""The job that looks at a question file before anything is asked."""

from codemmlu.cli.check import check
from codemmlu.cli.main import exit_with, main_of_file

ABOUT = """A look at a question file: python jobs/check.py FILE [questions.key=value ...]

Reads the file as a run would, and shows the first question as it is sent, the columns that are used and not used, how
answers are read, the numbers of choices, repeated questions, and every oddity with its place and the setting for it.
"""

if __name__ == "__main__":
    exit_with(main_of_file("check", ABOUT, check))
