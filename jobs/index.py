"""The job that builds the index of solved examples; the same as `codemmlu index`."""

from codemmlu.cli.commands import run_job

if __name__ == "__main__":
    run_job("index")
