"""PostgreSQL stops, and its sessions are ended, under load."""

import pytest

from tests.faults.form import pass_time, sized
from tests.faults.harness import Site
from tests.support.processes import DEADLINE, eventually

pytestmark = pytest.mark.timeout(900)

END_ACTIVE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE usename = 'statsd' AND state = 'active' AND query ~ 'submissions'
"""


def test_postgresql_stopped_and_restarted_and_then_killed(site: Site) -> None:
    """Changes fail during the outage; events from before are handled after it."""
    site.start().started()
    with site.load.running():
        site.outage(site.servers.postgres)
        seconds = site.probe()
        for _ in range(sized(1, 5)):
            site.crash(site.servers.postgres)
    site.notes.append(f"first event after its return is in its value after {seconds:.2f} s")
    assert seconds < DEADLINE
    site.finish()


def test_sessions_ended_during_a_query(site: Site) -> None:
    site.add_rows(solves=sized(20_000, 60_000))
    site.start().started()

    def one_is_ended() -> bool:
        ended = [gone for (gone,) in site.execute(END_ACTIVE) if gone]
        site.faults["active queries ended"] += len(ended)
        return bool(ended)

    with site.load.running():
        while site.faults["active queries ended"] < sized(15, 100):
            eventually(one_is_ended, "the daemon is in a query")
            pass_time(site.chance.uniform(0.0, 0.3))
    site.finish()
