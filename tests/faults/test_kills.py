"""Daemons that are killed at random moments, under load, lose nothing."""

from itertools import count

import pytest

from tests.faults.form import pass_time, sized
from tests.faults.harness import COMPLETE, Site
from tests.support.processes import Daemon, eventually

pytestmark = pytest.mark.timeout(900)

SHARED = ("batch accepted", "jobs completed")  # log events

_numbers = count(1)


def start_again(site: Site, name: str) -> tuple[str, Daemon]:
    """Start a daemon, sometimes under the name of the one before, else under a new name.

    Under the old name it waits until the name is free, and then finds its pending entries. Under a
    new name it takes them over when they have been pending for long enough.
    """
    if not name or site.chance.random() < 0.8:
        name = f"d{next(_numbers)}"
    return name, site.start(name)


def wait_for_a_bad_moment(site: Site, *daemons: Daemon) -> None:
    """Wait for a random moment during their start or, more often, during their work."""
    if site.chance.random() < 0.25:
        pass_time(site.chance.uniform(0.2, 1.2))
    else:
        for daemon in daemons:
            daemon.started()
        pass_time(site.chance.uniform(0.0, 0.6))


def test_one_daemon_killed_again_and_again(site: Site) -> None:
    name = ""
    with site.load.running():
        for _ in range(sized(20, 40)):
            name, daemon = start_again(site, name)
            wait_for_a_bad_moment(site, daemon)
            site.kill(daemon)
    start_again(site, name)
    site.finish()


def test_one_of_two_daemons_and_then_all_killed_again_and_again(site: Site) -> None:
    steady = site.start("steady").started()
    first = second = ""
    with site.load.running():
        for _ in range(sized(5, 25)):
            first, daemon = start_again(site, first)
            wait_for_a_bad_moment(site, daemon)
            site.kill(daemon)
        site.kill(steady)
        site.faults["kills of one of two"] = site.faults["kills"]
        for _ in range(sized(4, 20)):
            first, one = start_again(site, first)
            second, two = start_again(site, second)
            wait_for_a_bad_moment(site, one, two)
            for daemon in (one, two):
                site.kill(daemon)
            site.faults["kills of all"] += 1
    start_again(site, first)
    site.finish()


def test_four_daemons_share_a_cold_start_and_the_load(site: Site) -> None:
    """Redis is empty, except for the events that the load publishes while they start."""
    site.add_rows(dojos=sized(100, 1000))
    with site.load.running():
        daemons = [site.start(f"d{number}") for number in range(4)]
        for daemon in daemons:
            daemon.started()
        pass_time(sized(2.0, 20.0))
        eventually(
            lambda: all(daemon.lines(event) for daemon in daemons for event in SHARED),
            "each daemon has a share of the work",
            COMPLETE,
        )
    site.complete()
    for event in SHARED:
        shares = [len(daemon.lines(event)) for daemon in daemons]
        site.notes.append(f"'{event}' by each daemon: {shares}")
    site.finish()
