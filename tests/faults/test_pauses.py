"""Daemons that are paused, and continue with leases that have expired."""

import os
import signal

import pytest

from tests.faults.form import pass_time, sized
from tests.faults.harness import Site

pytestmark = pytest.mark.timeout(900)


def test_one_of_two_daemons_pauses_for_longer_than_its_leases(site: Site) -> None:
    """The other daemon takes over the jobs; the answers of the paused daemon are fenced."""
    daemons = [site.start(name).started() for name in ("a", "b")]
    with site.load.running():
        for seconds in sized((3.0,), (2.5, 3.5, 5.0, 17.0, 25.0, 3.0)):
            daemon = site.chance.choice(daemons)
            pass_time(site.chance.uniform(0.2, 0.6))
            os.kill(daemon.process.pid, signal.SIGSTOP)
            pass_time(seconds)
            os.kill(daemon.process.pid, signal.SIGCONT)
            site.faults["pauses"] += 1
    site.finish()
