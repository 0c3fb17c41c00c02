"""The commands, the text that they print, and the dry run."""
