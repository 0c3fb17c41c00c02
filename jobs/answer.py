"""The job that answers a recipe's questions with every voter's model, and reports; the same as `codemmlu answer`."""

from codemmlu.cli.commands import run_job

if __name__ == "__main__":
    run_job("answer")
