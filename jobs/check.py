"""The job that looks at a question file before anything is asked; the same as `codemmlu check`."""

from codemmlu.cli.commands import run_job

if __name__ == "__main__":
    run_job("check")
