"""Training: solved questions become LoRA weights. What is learnt in which order, the backends, and what is kept."""
