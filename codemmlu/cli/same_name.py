"""Another distribution with the import name `codemmlu`: the benchmark's own evaluator on PyPI has it, too."""

import importlib.metadata

OTHER = "codemmlu"
OURS = "codemmlu-ray"


def warning() -> str | None:
    """Return a line about the other distribution; None where it is not installed.

    Both install files into one folder, and both install a command `codemmlu`: the one that was installed last has it.
    """
    version = installed(OTHER)
    if version is None:
        return None
    return (
        f"WARNING: the distribution {OTHER} {version}, the benchmark's own evaluator, is installed here too. Both have "
        f"the import name codemmlu and a command codemmlu, and each overwrites the other's: keep them in separate "
        f"environments, or start this one as {OURS}"
    )


def installed(name: str) -> str | None:
    """Return the version of a distribution; None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
