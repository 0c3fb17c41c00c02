"""The job that trains LoRA weights on solved examples."""

from codemmlu.cli import steps
from codemmlu.cli.main import exit_with, main

ABOUT = """Finetuning: python jobs/finetune.py RECIPE [key.path=value ...]

Trains LoRA weights for a model on solved examples, as the recipe's `finetune` says, on Ray Train's workers. Stop it
anywhere; the same command goes on from its last checkpoint. Voters answer with them by `adapter: NAME`.
"""

if __name__ == "__main__":
    exit_with(main("finetune", ABOUT, steps.finetune))
