"""Every documented metric is there, no other one is, and each of them moves."""

import pytest
import sqlalchemy as sa

from statsd import keys
from statsd.events import DojoStatsUpdate
from tests.faults.harness import Site
from tests.faults.test_broken_dojo import BREAKS_CALCULATION
from tests.support.processes import eventually, free_port, get
from tests.support.scrape import described, documented, scraped

pytestmark = pytest.mark.timeout(300)

STILL = {  # while a daemon lives and is well; the first three are moved by `test_sight.py`
    *("statsd_up", "statsd_ready", "statsd_server_up", "statsd_info", "statsd_pool_connections"),
    *("process_start_time_seconds", "process_max_fds"),
}
END_ALL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'statsd'"


class Movements:
    """Which metrics have moved since all began."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._before = scraped(port)
        self.moved: set[str] = set()

    def look(self) -> set[str]:
        """Look once more; return what has not moved yet."""
        now = scraped(self._port)
        self.moved |= {name for name in now if now[name] != self._before.get(name)}
        return documented().keys() - STILL - self.moved

    def wait_for(self, *names: str) -> None:
        eventually(lambda: not self.look() & set(names), f"these move: {names}", 30)


def test_every_documented_metric_moves(site: Site) -> None:
    site.execute(BREAKS_CALCULATION)
    port = free_port()
    daemon = site.start(
        STATSD_HTTP_PORT=str(port), STATSD_RETRY_DELAYS="0.1", STATSD_SLOW_JOB="0.001"
    ).started()
    eventually(lambda: get(port, "/readyz")[0] == 200, "it is ready")
    assert described(port) == documented()
    movements = Movements(port)
    site.probe()
    value_is_tampered_with(site)
    movements.wait_for("statsd_drifted_values_total", "statsd_publish_to_cache_seconds")
    assert daemon.lines("refreshed, slowly")
    # A solve of which no event tells, and an event that is none.
    site.publisher.kept = []
    site.probe()
    site.publisher.kept = None
    site.cache.xadd(keys.STREAM, {"data": b"no event"})
    movements.wait_for("statsd_missed_solves_total", "statsd_dead_events_total")
    # A dojo that cannot be computed.
    broken = site.webapp.create_dojo()
    site.execute("INSERT INTO faults.broken VALUES (:dojo_id)", dojo_id=broken.dojo_id)
    site.publisher.publish(DojoStatsUpdate(broken.dojo_id))
    movements.wait_for("statsd_failed_refreshes_total", "statsd_dead_refreshes_total")
    site.execute("DELETE FROM faults.broken")
    all_waits_for_a_lock(site, movements)
    movements.wait_for(*documented().keys() - STILL)
    site.publisher.publish(DojoStatsUpdate(broken.dojo_id))
    site.losses += 2  # what was tampered with, and the solve that was not published
    site.complete(heals=True)
    site.finish(heals=True, dead=site.cache.xlen(keys.DEAD_LETTERS))


def value_is_tampered_with(site: Site) -> None:
    key = keys.dojo_stats(site.quiet.reference_id)
    eventually(lambda: site.cache.get(key), "the value is there")
    site.complete()
    site.cache.set(key, b'{"solves": 5}')


def all_waits_for_a_lock(site: Site, movements: Movements) -> None:
    """Let work, and then events, wait for a table."""
    with site.webapp.engine.begin() as connection:
        connection.execute(sa.text("LOCK TABLE dojo_users IN ACCESS EXCLUSIVE MODE"))
        for dojo in site.load.dojos:
            site.publisher.publish(DojoStatsUpdate(dojo.dojo_id))
        movements.wait_for("statsd_working_refreshes", "statsd_overdue_seconds")
        site.execute(END_ALL)  # of what waits here
        movements.wait_for("statsd_lost_servers_total")
    [challenge_id] = site.webapp.challenge_ids(site.quiet)
    user = site.webapp.create_user()
    with site.webapp.engine.begin() as connection:
        connection.execute(sa.text("LOCK TABLE dojo_challenges IN ACCESS EXCLUSIVE MODE"))
        site.webapp.solve(user, challenge_id)
        movements.wait_for("statsd_pending_events", "statsd_oldest_pending_seconds")
        site.webapp.solve(site.webapp.create_user(), challenge_id)
        movements.wait_for("statsd_unread_events", "statsd_lag_seconds")
