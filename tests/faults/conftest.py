"""A site for each scenario. Pytest prints its figures at the end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import FIGURES
from tests.faults import harness
from tests.faults.harness import Site


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """Servers and a web application, without a daemon; the parameter has arguments for Redis."""

    def say(line: str) -> None:
        request.node.user_properties.append((FIGURES, line))

    scenario = request.node.name.removeprefix("test_")
    with harness.site(tmp_path, scenario, say, *getattr(request, "param", ())) as new:
        yield new
