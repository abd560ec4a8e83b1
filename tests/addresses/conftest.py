"""A certificate authority for tests of addresses."""

import pytest

from tests.support.certificates import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority of this session."""
    return Authority(tmp_path_factory.mktemp("authority"))
