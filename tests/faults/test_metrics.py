"""A daemon has exactly the documented metrics, and each of them changes."""

import pytest
import sqlalchemy as sa

from statsd import keys
from statsd.events import DojoStatsUpdate
from tests.faults.harness import Site
from tests.faults.test_broken_dojo import BREAKS_CALCULATION
from tests.support.processes import DEADLINE, eventually, free_port, get
from tests.support.scrape import described, documented, scraped

pytestmark = pytest.mark.timeout(900)

CONSTANT = {  # while a daemon is well; `test_health.py` changes the first three
    *("statsd_up", "statsd_ready", "statsd_server_up", "statsd_info", "statsd_pool_connections"),
    *("process_start_time_seconds", "process_max_fds"),
    "statsd_dropped_log_lines_total",  # `test_stuck_log.py` changes it
}
AUDITED = 240.0  # seconds; an audit rests for fifty times as long as it takes on this machine
END_ALL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'statsd'"


class ChangedMetrics:
    """The metrics that have changed since the start."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._before = scraped(port)
        self.names: set[str] = set()

    def unchanged(self) -> set[str]:
        """Scrape once more; return the metrics that have not changed yet."""
        now = scraped(self._port)
        self.names |= {name for name in now if now[name] != self._before.get(name)}
        return documented().keys() - CONSTANT - self.names

    def wait_for(self, *names: str, seconds: float = DEADLINE) -> None:
        wanted = set(names)
        eventually(lambda: not self.unchanged() & wanted, f"these metrics change: {names}", seconds)


def test_every_documented_metric_changes(site: Site) -> None:
    site.execute(BREAKS_CALCULATION)
    port = free_port()
    daemon = site.start(
        STATSD_HTTP_PORT=str(port), STATSD_RETRY_DELAYS="0.1", STATSD_SLOW_JOB="0.001"
    ).started()
    eventually(lambda: get(port, "/readyz")[0] == 200, "the daemon is ready")
    assert described(port) == documented()
    changed = ChangedMetrics(port)
    site.probe()
    change_a_value(site)
    names = ("statsd_drifted_values_total", "statsd_publish_to_cache_seconds")
    changed.wait_for(*names, seconds=AUDITED)
    assert daemon.lines("jobs completed slowly")
    # A solve without an event, and an invalid event.
    site.publisher.kept = []
    site.probe()
    site.publisher.kept = None
    site.cache.xadd(keys.STREAM, {"data": b"no event"})
    changed.wait_for("statsd_missed_solves_total", "statsd_dead_events_total")
    # A dojo whose jobs fail.
    broken = site.webapp.create_dojo()
    site.execute("INSERT INTO faults.broken VALUES (:dojo_id)", dojo_id=broken.dojo_id)
    site.publisher.publish(DojoStatsUpdate(broken.dojo_id))
    changed.wait_for("statsd_failed_jobs_total", "statsd_dead_jobs_total")
    site.execute("DELETE FROM faults.broken")
    delay_work_by_a_lock(site, changed)
    changed.wait_for(*documented().keys() - CONSTANT)
    site.publisher.publish(DojoStatsUpdate(broken.dojo_id))
    site.losses += 2  # the changed value, and the solve that was not published
    site.complete(heals=True)
    site.finish(heals=True, dead=site.cache.xlen(keys.DEAD_LETTERS))


def change_a_value(site: Site) -> None:
    key = keys.dojo_stats(site.quiet.reference_id)
    eventually(lambda: site.cache.get(key), "the value is cached")
    site.complete()
    site.cache.set(key, b'{"solves": 5}')


def delay_work_by_a_lock(site: Site, changed: ChangedMetrics) -> None:
    """Let jobs, and then events, wait for a table."""
    with site.webapp.engine.begin() as connection:
        connection.execute(sa.text("LOCK TABLE dojo_users IN ACCESS EXCLUSIVE MODE"))
        for dojo in site.load.dojos:
            site.publisher.publish(DojoStatsUpdate(dojo.dojo_id))
        changed.wait_for("statsd_running_jobs", "statsd_overdue_seconds")
        site.execute(END_ALL)  # the waiting connections
        changed.wait_for("statsd_lost_servers_total")
    [challenge_id] = site.webapp.challenge_ids(site.quiet)
    user = site.webapp.create_user()
    with site.webapp.engine.begin() as connection:
        connection.execute(sa.text("LOCK TABLE dojo_challenges IN ACCESS EXCLUSIVE MODE"))
        site.webapp.solve(user, challenge_id)
        changed.wait_for("statsd_pending_events", "statsd_oldest_pending_seconds")
        site.webapp.solve(site.webapp.create_user(), challenge_id)
        changed.wait_for("statsd_unread_events", "statsd_lag_seconds")
