"""A daemon works, answers and ends while nobody reads its log."""

import subprocess
import sys
from collections.abc import Iterator
from time import monotonic

import pytest

from statsd import keys
from tests.faults.harness import Site
from tests.support.pipes import Pipe, pipe
from tests.support.processes import DEADLINE, Daemon, environment, eventually, free_port, get
from tests.support.scrape import scraped

pytestmark = pytest.mark.timeout(900)

DRAIN = 2.0  # seconds
MARGIN = 10.0  # seconds, for leaving, for the end of the log, and for a busy machine
LINES = 3
SMALL = f"""
from statsd.__main__ import main
from statsd.observability import log_writer

log_writer.MOST_LINES = {LINES}
main()
"""
"""A daemon whose log is full after a few lines."""
CLOSED = """
import os, sys
for descriptor in {descriptors}:
    os.close(descriptor)
os.execv(sys.executable, [sys.executable, "-m", "statsd", *sys.argv[1:]])
"""
"""A daemon that starts with closed descriptors, as after `statsd run >&-`."""
DROPPED = "statsd_dropped_log_lines_total"
EVENT = "log lines were dropped"


class SilentDaemon:
    """A ready daemon that does not need its log to show that it works."""

    def __init__(
        self,
        site: Site,
        output: int | None = None,
        program: tuple[str, ...] = ("-m", "statsd"),
    ) -> None:
        self._site = site
        self.port = free_port()
        site.output = output
        self.daemon: Daemon = site.start(
            program=program,
            STATSD_DRAIN_DEADLINE=str(DRAIN),
            STATSD_HTTP_PORT=str(self.port),
            STATSD_LEASES="2",  # is no setting; a line on standard error says so
        )
        eventually(lambda: get(self.port, "/readyz") == (200, "ready\n"), "the daemon is ready")

    def works(self) -> None:
        """Assert that solves reach the cache, and that it is well."""
        for _ in range(3):
            self._site.probe()
        assert get(self.port, "/healthz") == (200, "well\n")

    def dropped(self) -> float:
        return sum(scraped(self.port)[DROPPED].values())

    def ends(self) -> None:
        """Assert that a signal ends it in time with 0."""
        self._site.complete()
        began = monotonic()
        assert self.daemon.stop() == 0
        assert monotonic() - began < DRAIN + MARGIN
        self._site.finish()


@pytest.fixture
def output() -> Iterator[Pipe]:
    with pipe() as new:
        yield new


def test_a_daemon_works_and_ends_while_its_output_is_full(site: Site, output: Pipe) -> None:
    output.fill()
    silent = SilentDaemon(site, output.writer)
    silent.works()
    silent.ends()


def test_the_lines_go_on_when_the_output_is_read_again(site: Site, output: Pipe) -> None:
    output.fill()
    silent = SilentDaemon(site, output.writer, ("-c", SMALL))
    silent.works()
    site.complete()
    assert silent.dropped()
    output.copy_into(silent.daemon.log)
    eventually(lambda: silent.daemon.lines(EVENT), "the log says so")
    assert silent.daemon.all_lines()[LINES]["event"] == EVENT
    silent.works()
    eventually(
        lambda: sum(line["lines"] for line in silent.daemon.lines(EVENT)) == silent.dropped(),
        "the log and the metric agree",
    )
    silent.ends()
    eventually(lambda: silent.daemon.lines("stopped"), "the last line is read")
    silent.daemon.keeps_to_its_contract()


@pytest.mark.parametrize("is_late", [False, True], ids=["at the start", "later"])
def test_a_daemon_works_and_ends_when_the_reader_is_gone(
    site: Site, output: Pipe, is_late: bool
) -> None:
    if not is_late:
        output.lose_reader()
    silent = SilentDaemon(site, output.writer)
    if is_late:
        output.lose_reader()
    silent.works()
    eventually(silent.dropped, "the lines are counted")
    silent.ends()


@pytest.mark.parametrize("descriptors", [(1,), (1, 2), (0, 1, 2)], ids=str)
def test_a_daemon_works_and_ends_when_its_output_is_closed(
    site: Site, descriptors: tuple[int, ...]
) -> None:
    """No connection gets the number of a closed descriptor, and the lines."""
    silent = SilentDaemon(site, program=("-c", CLOSED.format(descriptors=descriptors)))
    silent.works()
    assert silent.dropped()
    silent.ends()


def test_a_daemon_that_fails_ends_while_its_output_is_full(site: Site, output: Pipe) -> None:
    output.fill()
    silent = SilentDaemon(site, output.writer)
    site.cache.delete(keys.DAEMONS)
    site.cache.set(keys.DAEMONS, "no hash")
    code = silent.daemon.process.wait(DEADLINE)
    site.cache.delete(keys.DAEMONS)
    assert code == 1
    site.finished = True


@pytest.mark.parametrize("is_broken", [False, True], ids=["full", "broken"])
@pytest.mark.parametrize(
    ("code", "variables"),
    [
        (0, {"BACKGROUND_STATS_ENABLED": "0", "DATABASE_URL": "postgresql://db/ctfd"}),
        (2, {"STATSD_LEASE": "long"}),
    ],
    ids=["switched off", "wrong settings"],
)
def test_a_daemon_that_does_not_start_ends_without_a_reader(
    output: Pipe, is_broken: bool, code: int, variables: dict[str, str]
) -> None:
    if is_broken:
        output.lose_reader()
    else:
        output.fill()
    ended = subprocess.run(
        [sys.executable, "-m", "statsd", "run"],
        env=environment(variables),
        stdout=output.writer,
        stderr=output.writer,
        timeout=DEADLINE,
        check=False,
    )
    assert ended.returncode == code
