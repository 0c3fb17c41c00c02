"""Reports: the numbers of a run, from its votes and verdicts, and how users see them."""
