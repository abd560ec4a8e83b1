"""On systems where a daemon cannot work, every command says why, and what to do.

`docs/troubleshooting.md` has what was said. With STATSD_TEST_WRITE_DOCS=1 it is written anew.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from statsd.dev import embedded
from tests.support.certificates import Authority
from tests.support.sick_systems import SYSTEMS, Healthy, said_of, table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "troubleshooting.md"


@pytest.fixture
def healthy(
    database: str, own_cache: embedded.Redis, authority: Authority, tmp_path: Path
) -> Healthy:
    return Healthy(database, own_cache.url, authority, tmp_path)


@pytest.fixture(scope="module")
def own_cache() -> Iterator[embedded.Redis]:
    with embedded.redis() as server:
        yield server


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_command_says_what_is_wrong(healthy: Healthy, name: str) -> None:
    system = SYSTEMS[name]
    with system.system(healthy) as variables:
        said = said_of(variables, healthy.folder / "log")
    assert said.code == (2 if system.ends else None)
    assert "Traceback" not in str(said)
    for secret in re.findall(r"//\w+:(\w+)@", str(dict(variables))):
        assert secret not in str(said)
    assert said.lines["health"].startswith("2: statsd: " if system.ends else "1: ") or (
        system.ends and said.lines["health"].startswith("1: ")
    )
    section = table(system, said)
    if os.environ.get("STATSD_TEST_WRITE_DOCS"):
        write(system.symptom, section)
    assert section in PAGE.read_text()


def write(symptom: str, section: str) -> None:
    """Replace the section of a symptom on the page, or append it."""
    text = PAGE.read_text()
    before, heading, after = text.partition(f"### {symptom}\n")
    rest = re.search(r"^##", after, re.MULTILINE)
    tail = after[rest.start() :] if rest and heading else ""
    PAGE.write_text(f"{before.rstrip()}\n\n{section}" + (f"\n{tail}" if tail else ""))
