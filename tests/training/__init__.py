"""Training: lessons, backends, what is published, and real trainings of a tiny model."""
