"""Engine placement: where each engine runs and how its model is split over GPUs. Pure arithmetic."""
