"""The job that shows what this machine has and which recipes fit it; the same as `codemmlu doctor`."""

from codemmlu.cli.commands import run_job

if __name__ == "__main__":
    run_job("doctor")
