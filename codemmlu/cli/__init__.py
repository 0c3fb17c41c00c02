"""The commands, what they print, and the dry run."""
