"""The job that compares runs on the same questions; the same as `codemmlu report`."""

from codemmlu.cli.commands import run_job

if __name__ == "__main__":
    run_job("report")
