"""Daemons that are killed at random moments under load lose nothing."""

import os
import signal
import sys
from pathlib import Path
from threading import Event

import pytest

from tests.faults.harness import Site, site
from tests.support import Daemon

KILLS = int(os.environ.get("STATSD_TEST_KILLS", "20"))


def kill_at_a_random_moment(site: Site, daemon: Daemon) -> None:
    """Kill it somewhere in its start, or, more often, in the midst of its work."""
    if site.chance.random() < 0.25:
        Event().wait(site.chance.uniform(0.2, 1.2))
    else:
        daemon.started()
        Event().wait(site.chance.uniform(0.0, 0.6))
    daemon.stop(signal.SIGKILL)


def report(capsys: pytest.CaptureFixture[str], kills: int, site: Site) -> None:
    with capsys.disabled():
        sys.stdout.write(
            f"\n{kills} kills, {site.changes} changes, {site.publisher.published} events, 0 lost\n"
        )


@pytest.mark.timeout(600)
def test_one_daemon_killed_again_and_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with site(tmp_path, seed=1) as busy:
        with busy.load():
            for _ in range(KILLS):
                kill_at_a_random_moment(busy, busy.start())
        last = busy.start()
        busy.check()
        assert last.stop() == 0
        report(capsys, KILLS, busy)


@pytest.mark.timeout(600)
def test_one_of_two_daemons_killed_again_and_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with site(tmp_path, seed=2) as busy:
        steady = busy.start("steady").started()
        with busy.load():
            for _ in range(KILLS // 2):
                kill_at_a_random_moment(busy, busy.start("mortal"))
        busy.check()
        assert steady.stop() == 0
        report(capsys, KILLS // 2, busy)
