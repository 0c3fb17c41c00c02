"""Where an engine runs and how it is split: pure arithmetic over GPUs, memory and model shapes."""
