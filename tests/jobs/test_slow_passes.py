"""Costly jobs do not delay urgent jobs, even if pages wait for the costly ones."""

from pathlib import Path

import redis
import sqlalchemy as sa
from redis.asyncio import Redis

from statsd.calculators.scores import Scores
from statsd.dev import embedded
from statsd.job import Priority
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import Queue
from tests.support.processes import daemon, eventually
from tests.support.webapp import cached, publish, solves_of, webapp_of

# To read a dojo in the table `slow` takes longer than the test.
SLOW = """
CREATE FUNCTION delayed(data jsonb) RETURNS jsonb STABLE LANGUAGE plpgsql
AS $$ BEGIN PERFORM pg_sleep(600); RETURN data; END $$;
ALTER TABLE dojos RENAME TO real_dojos;
CREATE TABLE slow (dojo_id integer);
CREATE VIEW dojos AS
SELECT dojo_id, id, name, official, password,
  CASE WHEN dojo_id IN (SELECT dojo_id FROM slow) THEN delayed(data) ELSE data END AS data
FROM real_dojos
"""
PASSES = sa.text(
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'"
    " AND wait_event = 'PgSleep'"
)


async def test_a_solve_does_not_wait_for_passes_that_pages_wait_for(
    database: str,
    redis_server: embedded.Redis,
    cache: "redis.Redis",
    async_cache: Redis,
    tmp_path: Path,
) -> None:
    webapp = webapp_of(database)
    user = webapp.create_user()
    first, second, quick = (webapp.create_dojo() for _ in range(3))
    with webapp.engine.begin() as connection:
        connection.exec_driver_sql(SLOW)

    def running() -> list[int]:
        with webapp.engine.connect() as connection:
            return list(connection.execute(PASSES).scalars())

    variables = {
        "DATABASE_URL": database,
        "REDIS_URL": redis_server.url,
        "STATSD_CONCURRENCY": "1",
        "STATSD_STATEMENT_TIMEOUT": "59",
        "STATSD_AUDIT_INTERVAL": "0",
    }
    with daemon(tmp_path / "log", **variables) as process:
        process.started()
        cached(cache, quick)
        with webapp.engine.begin() as connection:
            for dojo in (first, second):
                connection.execute(sa.text("INSERT INTO slow VALUES (:id)"), {"id": dojo.dojo_id})
        queue = Queue(async_cache, "nobody", lease=30, dead_limit=10)
        wanted = [Scores(dojo.dojo_id) for dojo in (first, second)]
        for job in wanted:
            await queue.enqueue([PendingJob(job, priority=Priority.MISSED)])
            eventually(lambda: len(running()) == 1, "one pass is under way")
        webapp.solve(user, webapp.challenge_ids(quick)[0])
        publish(cache, quick)
        eventually(lambda: solves_of(cache, quick)() == 1, "the solve is there")
        assert len(running()) == 1
        with webapp.engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM slow"))
            connection.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": running()[0]})
    webapp.engine.dispose()
