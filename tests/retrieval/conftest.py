"""What the tests of retrieval share: one index that they only read."""

import pytest

from tests.support.example_indexes import Made, build


@pytest.fixture(scope="session")
def whole(ray_cluster: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Made:
    """All of EXAMPLES in one exact index. A test that changes it works on a copy."""
    folder = tmp_path_factory.mktemp("whole")
    return Made(folder, build(folder))
