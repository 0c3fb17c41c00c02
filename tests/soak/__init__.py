"""Long checks: real kills, real jobs."""
