"""The job that votes and reports on stored answers alone; the same as `codemmlu vote`."""

from codemmlu.cli.commands import run_job

if __name__ == "__main__":
    run_job("vote")
