"""Training: solved questions become LoRA weights, which are published in the run directory."""
