"""A plugin of pytest: hypothesis tries few examples, always the same ones, and looks for no simpler ones."""

import hypothesis
import pytest
from hypothesis import Phase


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """Replace the profile that tests/conftest.py has loaded: a fault must not be caught by luck, nor slowly."""
    hypothesis.settings.register_profile(
        "mutations",
        deadline=None,
        derandomize=True,
        database=None,
        max_examples=10,
        phases=[Phase.explicit, Phase.generate],
    )
    hypothesis.settings.load_profile("mutations")
