"""An event whose look-up always times out delays no other event, and is not lost."""

from pathlib import Path
from typing import Any

import orjson
import redis
import sqlalchemy as sa

from statsd import keys
from statsd.dev import embedded
from tests.support.processes import daemon, eventually
from tests.support.webapp import cached, publish, solves_of, webapp_of

# The look-up of a user in the table `slow` exceeds the statement timeout. The function has a high
# cost, so that PostgreSQL does not call it for other users.
SLOW = """
CREATE FUNCTION delayed() RETURNS boolean LANGUAGE plpgsql COST 1000000
AS $$ BEGIN PERFORM pg_sleep(600); RETURN true; END $$;
ALTER TABLE users RENAME TO real_users;
CREATE TABLE slow (user_id integer);
CREATE VIEW users AS SELECT * FROM real_users
WHERE id NOT IN (SELECT user_id FROM slow) OR delayed()
"""


def entries(cache: "redis.Redis") -> list[bytes]:
    found: Any = cache.xrange(keys.STREAM)
    return [entry for entry, _ in found]


def test_other_events_are_handled_first_and_the_slow_one_when_possible(
    database: str, redis_server: embedded.Redis, cache: "redis.Redis", tmp_path: Path
) -> None:
    webapp = webapp_of(database)
    slow, quick = webapp.create_user(), webapp.create_user()
    dojo = webapp.create_dojo()
    with webapp.engine.begin() as connection:
        connection.exec_driver_sql(SLOW)
    variables = {
        "DATABASE_URL": database,
        "REDIS_URL": redis_server.url,
        "STATSD_STATEMENT_TIMEOUT": "1",
        "STATSD_AUDIT_INTERVAL": "0",
    }
    with daemon(tmp_path / "log", **variables) as process:
        process.started()
        cached(cache, dojo)
        with webapp.engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO slow VALUES (:id)"), {"id": slow.id})
        for user in (slow, quick, slow):
            data = {"type": "user_update", "payload": {"user_id": user.id}}
            cache.xadd(keys.STREAM, {"data": orjson.dumps(data)})
        first = entries(cache)[0]
        eventually(lambda: cache.xlen(keys.STREAM) == 2, "all others are handled")
        publish(cache, dojo)
        eventually(lambda: cache.xlen(keys.STREAM) == 2, "new ones are handled")
        assert entries(cache)[0] == first
        with webapp.engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM slow"))
        eventually(lambda: cache.xlen(keys.STREAM) == 0, "the slow events are handled")
        assert not cache.exists(keys.DEAD_LETTERS)
        assert solves_of(cache, dojo)() == 0
    webapp.engine.dispose()
