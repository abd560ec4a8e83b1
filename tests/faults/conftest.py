"""Sites for scenarios. Pytest prints their figures at the end."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pytest

from statsd.dev import embedded
from tests.conftest import FIGURES
from tests.faults import harness
from tests.faults.harness import Site

SiteOn = Callable[..., Site]
"""Make a site on servers that run; the arguments are those of Site after `say`."""


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """A function that has pytest print a line at its end."""

    def say(line: str) -> None:
        request.node.user_properties.append((FIGURES, line))

    return say


@pytest.fixture
def scenario(request: pytest.FixtureRequest) -> str:
    """The name of a test's scenario."""
    name: str = request.node.name
    return name.removeprefix("test_")


@pytest.fixture
def site(
    request: pytest.FixtureRequest, tmp_path: Path, scenario: str, say: Callable[[str], None]
) -> Iterator[Site]:
    """Servers and a web application, without a daemon; the parameter has arguments for Redis."""
    with harness.site(tmp_path, scenario, say, *getattr(request, "param", ())) as new:
        yield new


@pytest.fixture
def site_on(tmp_path: Path, scenario: str, say: Callable[[str], None]) -> Iterator[SiteOn]:
    """A function that makes such a site on servers of the test's own."""
    with ExitStack() as stack:

        def make(servers: embedded.EmbeddedServers, **options: object) -> Site:
            new = partial(Site, servers, tmp_path, scenario, say)(**options)  # type: ignore[arg-type]
            return stack.enter_context(closing(new))

        yield make
