"""A page of a long scoreboard: `python -m benchmarks.page [--users N]`.

One dojo, in which every user has solved something. What is compared is a page with the caller's
own entry through the reader, and loading the exported array, which holds the same.
"""

import argparse
import asyncio
import statistics
from collections.abc import Callable
from time import perf_counter
from typing import Any

import orjson
import psycopg2
import redis
import sqlalchemy as sa

from benchmarks.live import daemon, wait
from statsd import embedded, keys, sample
from statsd.client import Reader

DOJO_ID, CHALLENGES, ROUNDS = 1, 20, 500
ROWS = f"""
INSERT INTO users (id, name, email, hidden, type)
  SELECT i, 'student ' || i, 'student' || i || '@example.com', false, 'user'
  FROM generate_series(1, %(users)s) i;
INSERT INTO challenges (id) SELECT i FROM generate_series(1, {CHALLENGES}) i;
INSERT INTO dojos (dojo_id, id, name, official, data)
  VALUES ({DOJO_ID}, 'long', 'Long', true, '{{}}');
INSERT INTO dojo_modules (dojo_id, module_index, id, name)
  VALUES ({DOJO_ID}, 0, 'module', 'Module');
INSERT INTO dojo_challenges
  (dojo_id, module_index, challenge_index, challenge_id, id, name, required)
  SELECT {DOJO_ID}, 0, i, i, 'c' || i, 'Challenge ' || i, true
  FROM generate_series(1, {CHALLENGES}) i;
INSERT INTO submissions (user_id, challenge_id, type, date)
  SELECT u, c, 'correct', now() AT TIME ZONE 'UTC' - interval '1 hour'
  FROM generate_series(1, %(users)s) u, generate_series(1, {CHALLENGES}) c
  WHERE c <= 1 + u %% {CHALLENGES} ORDER BY u, c;
ANALYZE
"""


def fill(database_url: str, users: int) -> None:
    """Make the dojo."""
    asyncio.run(sample.create_tables(database_url))
    connection = psycopg2.connect(database_url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(ROWS, {"users": users})
    connection.close()


def timed(read: Callable[[], Any]) -> float:
    """Return the median time of a call, in milliseconds."""
    times = []
    for _ in range(ROUNDS):
        began = perf_counter()
        read()
        times.append(perf_counter() - began)
    return statistics.median(times) * 1000


def main() -> None:
    """Run, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=20_000)
    users = parser.parse_args().users
    key = keys.scoreboard(DOJO_ID, days=0)
    with embedded.servers() as servers, redis.Redis.from_url(servers.redis_url) as cache:
        fill(servers.database_url, users)
        engine = sa.create_engine(
            sa.make_url(servers.database_url).set(drivername="postgresql+psycopg2")
        )
        reader = Reader.from_url(engine, servers.redis_url)

        def load() -> list[dict[str, Any]]:
            raw: Any = cache.get(key)
            return list(orjson.loads(raw))

        with daemon(servers):
            wait(lambda: bool(cache.exists(key)), "the array")
            array = load()
            for page in (1, users // 40):
                found = reader.get_scoreboard(DOJO_ID, page=page, me=users)
                if [*found.entries] != array[20 * page - 20 : 20 * page] or found.total != users:
                    raise SystemExit(f"page {page} is not what the array says")
            middle = timed(lambda: reader.get_scoreboard(DOJO_ID, page=users // 40, me=users))
            first = timed(lambda: reader.get_scoreboard(DOJO_ID, me=users))
            whole = timed(load)
        reader.close()
        engine.dispose()
    print(f"a scoreboard of {len(array)} entries")
    print(f"first page and own entry through the reader  {first:6.3f} ms")
    print(f"page {users // 40} and own entry through the reader    {middle:6.3f} ms")
    print(f"loading the array                            {whole:6.3f} ms, {whole / first:.0f} x")


if __name__ == "__main__":
    main()
