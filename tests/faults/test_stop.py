"""After SIGTERM under load the exit code is 0, the deadline is kept, and nothing is lost."""

import pytest
import sqlalchemy as sa

from statsd.events import DojoStatsUpdate
from tests.faults.form import pass_time, sized
from tests.faults.harness import BLOCKED, Site
from tests.support.processes import eventually

pytestmark = pytest.mark.timeout(900)

MARGIN = 20.0  # seconds; a hanging calculation ends after 50 seconds


def test_stopped_at_random_moments_under_load(site: Site) -> None:
    deadline = 3.0
    slowest = 0.0
    with site.load.running():
        for number in range(sized(5, 30)):
            daemon = site.start(f"d{number % 3}", STATSD_DRAIN_DEADLINE=str(deadline)).started()
            pass_time(site.chance.uniform(0.0, 1.0))
            code, seconds = site.stop(daemon)
            assert code == 0
            slowest = max(slowest, seconds)
    site.notes.append(f"slowest stop {slowest:.2f} s of {deadline:.0f}")
    assert slowest < deadline + MARGIN
    site.start()
    site.finish()


def test_stopped_while_calculations_hang(site: Site) -> None:
    """At the deadline leases are released, and their jobs stay pending."""
    deadline = 1.5
    daemon = site.start("hangs", STATSD_DRAIN_DEADLINE=str(deadline)).started()
    site.complete()
    with site.load.running(), site.webapp.engine.begin() as connection:
        connection.execute(sa.text("LOCK TABLE dojo_users IN ACCESS EXCLUSIVE MODE"))
        site.publisher.publish(DojoStatsUpdate(site.quiet.dojo_id))
        eventually(lambda: site.execute(BLOCKED), "a calculation waits")
        code, seconds = site.stop(daemon)
        connection.rollback()
    assert code == 0
    [stopped] = daemon.lines("stopped")
    assert stopped["leases_released"] > 0
    site.notes.append(
        f"stopped in {seconds:.2f} s of {deadline}, "
        f"{stopped['unfinished_tasks']} calculations unfinished, "
        f"{stopped['leases_released']} leases released"
    )
    assert seconds < deadline + MARGIN
    site.start()
    site.finish()
