"""A site for each scenario, which says its figures whether or not pytest captures output."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import harness
from tests.faults.harness import Site


@pytest.fixture
def site(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Site]:
    """Servers, a web application, no daemon yet; the parameter is the arguments of Redis."""

    def say(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{line}\n")

    scenario = request.node.name.removeprefix("test_")
    with harness.site(tmp_path, scenario, say, *getattr(request, "param", ())) as made:
        yield made
