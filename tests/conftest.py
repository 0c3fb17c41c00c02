"""Fast tests first: what needs a real engine runs after all else."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps the files' order, and moves engine tests behind the rest."""
    items.sort(key=lambda item: item.get_closest_marker("engine") is not None)
