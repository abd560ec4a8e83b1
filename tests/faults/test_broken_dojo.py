"""A dojo whose jobs or events always fail does not delay other dojos.

The daemon is unchanged. It reads views that divide by zero for the dojos in a table.
"""

import statistics
import subprocess
import sys
from typing import Any

import pytest

from statsd import keys, schema
from statsd.calculators.dojo_stats import DojoStats
from statsd.events import ChallengeSolve, DojoStatsUpdate
from tests.faults.figures import Unfinished, compare, unfinished
from tests.faults.form import sized
from tests.faults.harness import COMPLETE, Site
from tests.faults.load import CHALLENGES
from tests.support.processes import environment, eventually
from tests.support.webapp import Dojo

pytestmark = pytest.mark.timeout(900)

PROBES = sized(30, 300)
CALM = {"hide": 0, "replace_user": 0, "replace_dojo": 0, "rename": 0}
"""Weights of a load whose events concern one dojo each, and which deletes no dojo."""

# With new statistics of its tables, PostgreSQL may evaluate the fault before it selects dojos, and
# so for every dojo. Autovacuum would make them after a minute, which a slow run reaches.
NO_NEW_STATISTICS = ";\n".join(
    f"ALTER TABLE public.{table} SET (autovacuum_enabled = off)" for table in schema.metadata.tables
)
VIEWS = """
CREATE TABLE faults.broken (dojo_id integer);
CREATE VIEW faults.dojos AS
SELECT dojo_id, CASE WHEN {fault} THEN id END AS id, name, official, password, data
FROM public.dojos;
CREATE FUNCTION faults.is_right(which integer) RETURNS boolean STABLE LANGUAGE plpgsql
COST 1000 -- so that it is evaluated last, for rows that were selected
AS $$ BEGIN
  RETURN 1 / (CASE WHEN which IN (SELECT dojo_id FROM faults.broken) THEN 0 ELSE 1 END) = 1;
END $$;
CREATE VIEW faults.dojo_challenges AS
SELECT dojo_id, module_index, challenge_index, challenge_id, id, name, required
FROM public.dojo_challenges WHERE {row};
"""
FAULT = "1 / (CASE WHEN dojo_id IN (SELECT dojo_id FROM faults.broken) THEN 0 ELSE 1 END) = 1"

BREAKS_CALCULATION = VIEWS.format(fault=FAULT, row="true") + NO_NEW_STATISTICS
BREAKS_HANDLER = VIEWS.format(fault="true", row="faults.is_right(dojo_id)") + NO_NEW_STATISTICS


def speed(site: Site, phase: str) -> float:
    """Return the median time from a commit to its value, in seconds; note it for the phase."""
    seconds = [site.probe() for _ in range(PROBES)]
    median, slow = statistics.median(seconds), statistics.quantiles(seconds, n=100)[98]
    site.notes.append(f"{phase}: p50 {median * 1000:.0f} ms, p99 {slow * 1000:.0f} ms")
    return median


def letters(site: Site) -> list[dict[bytes, bytes]]:
    found: Any = site.cache.xrange(keys.DEAD_LETTERS)
    return [fields for _, fields in found]


def break_and_measure(site: Site) -> Dojo:
    """Break a dojo under load; return it when all its jobs or events are dead letters."""
    broken = site.webapp.create_dojo(CHALLENGES + 1)
    *others, challenge = site.webapp.challenge_ids(broken)
    site.load.dojos.append(broken)
    site.load.challenges[broken.dojo_id] = others  # the load does not solve the last one
    user = site.webapp.create_user()
    site.start(STATSD_RETRY_DELAYS="0.1,0.2,0.4").started()
    with site.load.running(**CALM):
        before = speed(site, "all dojos right")
        site.execute("INSERT INTO faults.broken VALUES (:id)", id=broken.dojo_id)
        site.webapp.solve(user, challenge)
        site.publisher.publish(DojoStatsUpdate(broken.dojo_id), ChallengeSolve(user.id, challenge))
        eventually(lambda: letters(site), "there is a dead letter")
        during = speed(site, "one dojo broken")
    eventually(lambda: unfinished(site.cache) == Unfinished(0, 0, 0), "no job is pending", COMPLETE)
    assert during < 3 * before + 0.5  # one round of retries takes 0.7 seconds
    return broken


def is_of(dojo: Dojo, key: str) -> bool:
    return key == keys.dojo_stats(dojo.reference_id) or f":{dojo.dojo_id}:" in f"{key}:"


def repair_and_replay(site: Site, broken: Dojo) -> None:
    """Repair the dojo, and replay the dead letters; nothing else makes the values right."""
    site.faults["dead letters replayed"] = len(letters(site))
    _, wrong = compare(site.webapp.engine, site.cache)
    assert wrong
    assert all(is_of(broken, value.key) for value in wrong)
    site.execute("DELETE FROM faults.broken")
    replay = [sys.executable, "-m", "statsd", "dead", "replay", "--all"]
    addresses = {"DATABASE_URL": site.servers.database_url, "REDIS_URL": site.servers.redis_url}
    subprocess.run(replay, env=environment(addresses), check=True, stdout=subprocess.DEVNULL)
    site.complete()
    site.finish()


def test_a_calculation_that_always_fails_for_one_dojo(site: Site) -> None:
    site.execute(BREAKS_CALCULATION)
    broken = break_and_measure(site)
    job = DojoStats(broken.dojo_id).name.encode()
    for letter in letters(site):
        assert letter[b"name"] == job
        assert b"division by zero" in letter[b"error"]
        assert letter[b"attempts"] == b"4"
    repair_and_replay(site, broken)


def test_a_handler_that_always_fails_for_one_dojo(site: Site) -> None:
    """The events of its solves become dead letters; other events in the same batch do not."""
    site.execute(BREAKS_HANDLER)
    broken = break_and_measure(site)
    events = [letter for letter in letters(site) if b"data" in letter]
    assert events
    for letter in events:
        assert b"challenge_solve" in letter[b"data"]
        assert b"division by zero" in letter[b"error"]
    repair_and_replay(site, broken)
