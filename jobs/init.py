"""The job that writes a starting recipe for a question file; the same as `codemmlu init`."""

from codemmlu.cli.commands import run_job

if __name__ == "__main__":
    run_job("init")
