"""The two errors that callers tell apart; everything else is a bug and keeps its traceback."""


class UserError(Exception):
    """The person's mistake: one line that names the value, the place and what would be right. Exit 2."""


class EngineDied(Exception):
    """The engine behind a worker is gone: the actor that held it must be replaced, its questions asked again."""
