"""After a restart of Redis with older data, values, pending jobs and leases are repaired."""

import signal
from pathlib import Path

import redis

from statsd import keys, schema
from statsd.dev import embedded
from tests.support.processes import daemon, eventually
from tests.support.webapp import cached, publish, solves_of, webapp_of


def test_a_redis_restarted_with_older_data_is_brought_up_to_date(tmp_path: Path) -> None:
    with embedded.servers() as servers:
        webapp = webapp_of(servers.database_url)
        schema.metadata.create_all(webapp.engine)
        dojo, user = webapp.create_dojo(), webapp.create_user()
        variables = {"DATABASE_URL": servers.database_url, "REDIS_URL": servers.redis_url}
        with (
            daemon(tmp_path / "log", **variables) as process,
            redis.Redis.from_url(servers.redis_url) as cache,
        ):
            process.started()
            cached(cache, dojo)
            cache.save()
            webapp.solve(user, webapp.challenge_ids(dojo)[0])
            publish(cache, dojo)
            eventually(lambda: solves_of(cache, dojo)() == 1, "the solve is counted")
            servers.redis.stop(signal.SIGKILL)
            servers.redis.start()
            assert solves_of(cache, dojo)() == 0
            eventually(lambda: solves_of(cache, dojo)() == 1, "the solve is counted again")
        webapp.engine.dispose()


def test_leases_in_older_data_are_released_at_once(tmp_path: Path) -> None:
    with embedded.servers() as servers:
        webapp = webapp_of(servers.database_url)
        schema.metadata.create_all(webapp.engine)
        dojo = webapp.create_dojo()
        variables = {"DATABASE_URL": servers.database_url, "REDIS_URL": servers.redis_url}
        with (
            daemon(tmp_path / "log", STATSD_LEASE="600", **variables) as process,
            redis.Redis.from_url(servers.redis_url) as cache,
        ):
            [started] = process.started().lines("started")
            cached(cache, dojo)
            name = f"dojo_stats:{dojo.dojo_id}"
            cache.hset(f"{keys.INTERNAL}leases", name, f"{started['consumer']}/1")
            cache.zadd(f"{keys.INTERNAL}due:1", {name: (cache.time()[0] + 600) * 1_000_000})
            cache.save()
            servers.redis.stop(signal.SIGKILL)
            servers.redis.start()
            leased = f"{keys.INTERNAL}leases"
            eventually(lambda: not cache.hexists(leased, name), "the lease is released")
            eventually(lambda: not cache.exists(f"{keys.INTERNAL}due:1"), "no job is pending")
        webapp.engine.dispose()
