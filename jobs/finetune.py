"""The job that trains LoRA weights on solved examples; the same as `codemmlu finetune`."""

from codemmlu.cli.commands import run_job

if __name__ == "__main__":
    run_job("finetune")
