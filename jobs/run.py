"""The job that does everything that a recipe asks for; the same as `codemmlu run`."""

from codemmlu.cli.commands import run_job

if __name__ == "__main__":
    run_job("run")
