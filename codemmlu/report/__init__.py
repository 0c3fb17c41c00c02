"""Reports: numbers from votes and verdicts, and how they are shown."""
