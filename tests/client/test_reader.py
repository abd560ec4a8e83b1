"""Readers: hits, misses computed from the daemon's statements, and a Redis that does not serve."""

import socket
from datetime import timedelta
from time import monotonic
from typing import Any

import orjson
import pytest
import redis
import sqlalchemy as sa

from statsd import keys, schema
from statsd.calculators.dojo_stats import DojoStats, empty
from statsd.client import AsyncReader, Reader
from statsd.dev import embedded
from tests.client import ctfd
from tests.client.ctfd import DOJO, LONG_AGO

REFERENCE = keys.reference_id(DOJO, "intro", official=False)
KEY = keys.dojo_stats(REFERENCE)
JOB = f"{keys.JOB}{DojoStats(DOJO).name}"

COMPUTED = {
    "users": 1,
    "challenges": 3,
    "visible_challenges": 3,
    "solves": 1,
    "recent_solves": [],
    "trends": {"solves": 0, "users": 0, "active": 0, "challenges": 0},
    "chart_data": {
        "labels": ["Today", "1w ago", "1mo ago", "2mo ago"],
        "solves": [0, 0, 0, 0],
        "users": [0, 0, 0, 0],
    },
}


pytestmark = pytest.mark.usefixtures("required")


def test_a_hit_is_the_cached_value(reader: Reader, cache: redis.Redis) -> None:
    cache.set(KEY, orjson.dumps({"solves": 77}))
    assert reader.get_dojo_stats(REFERENCE) == {"solves": 77}


async def test_a_hit_is_the_cached_value_async(
    async_reader: AsyncReader, cache: redis.Redis
) -> None:
    cache.set(KEY, orjson.dumps({"solves": 77}))
    assert await async_reader.get_dojo_stats(REFERENCE) == {"solves": 77}


def test_a_miss_is_computed_and_pending_and_not_written(reader: Reader, cache: redis.Redis) -> None:
    assert reader.get_dojo_stats(REFERENCE) == COMPUTED
    assert cache.hget(JOB, "class") == b"0"
    assert not cache.exists(KEY)


async def test_a_miss_is_computed_and_pending_async(
    async_reader: AsyncReader, cache: redis.Redis
) -> None:
    assert await async_reader.get_dojo_stats(REFERENCE) == COMPUTED
    assert cache.hget(JOB, "class") == b"0"


def test_a_key_that_is_missed_often_is_enqueued_once(reader: Reader, cache: redis.Redis) -> None:
    reader.get_dojo_stats(REFERENCE)
    enqueued = cache.hget(JOB, "enqueued")
    for _ in range(5):
        assert reader.get_dojo_stats(REFERENCE) == COMPUTED
    assert cache.hget(JOB, "enqueued") == enqueued


def test_a_value_that_is_no_json_counts_as_missing_and_the_log_names_its_kind_alone(
    reader: Reader, cache: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    cache.set(KEY, b"{rubbish")
    assert reader.get_dojo_stats(REFERENCE) == COMPUTED
    assert "of stats:dojo is garbled" in caplog.text
    assert REFERENCE not in caplog.text


@pytest.mark.parametrize("no_text", [3, None, b"a-dojo"], ids=repr)
def test_a_reference_id_that_is_no_text_is_refused(reader: Reader, no_text: Any) -> None:
    with pytest.raises(TypeError, match="reference_id must be a str, not"):
        reader.get_dojo_stats(no_text)


def test_recent_solves_and_the_chart_are_computed(reader: Reader, engine: Any) -> None:
    with engine.begin() as connection:
        now = connection.scalar(sa.text("SELECT now() AT TIME ZONE 'UTC'"))
        yesterday = now - timedelta(days=1)
        connection.execute(
            sa.insert(schema.submissions),
            {"user_id": 1, "challenge_id": 1, "type": "correct", "date": yesterday},
        )
    value = reader.get_dojo_stats(REFERENCE)
    # The challenge is in the dojo twice, so the solve counts for each row.
    assert (value["solves"], value["users"]) == (3, 2)
    assert [solve["date"] for solve in value["recent_solves"]] == [yesterday.isoformat()] * 2
    assert value["chart_data"]["solves"] == [2, 0, 0, 0]
    assert value["trends"]["solves"] == 100


def test_an_official_dojo_is_found_by_its_id(reader: Reader, engine: Any) -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.update(schema.dojos).where(schema.dojos.c.dojo_id == DOJO).values(official=True)
        )
    assert reader.get_dojo_stats("intro") == COMPUTED
    assert reader.get_dojo_stats(REFERENCE) == empty()


@pytest.mark.parametrize(
    "reference",
    ["nowhere", "intro~00000000", "intro~zz", "", "~", "other", "a\0b", "\ud800"],
    ids=ascii,
)
def test_a_dojo_that_does_not_exist_has_the_empty_default(
    reader: Reader, cache: redis.Redis, reference: str
) -> None:
    assert reader.get_dojo_stats(reference) == empty()
    assert not cache.keys("stats:*")


def test_without_the_fallback_a_miss_is_the_empty_default(
    engine: Any, redis_server: embedded.Redis, cache: redis.Redis
) -> None:
    reader = Reader.from_url(engine, redis_server.url, fallback=False)
    assert reader.get_dojo_stats(REFERENCE) == empty()
    cache.set(KEY, orjson.dumps({"solves": 77}))
    assert reader.get_dojo_stats(REFERENCE) == {"solves": 77}
    reader.close()


def test_switched_off_it_computes_and_leaves_redis_alone(
    engine: Any, redis_server: embedded.Redis, cache: redis.Redis
) -> None:
    cache.set(KEY, orjson.dumps({"solves": 77}))
    reader = Reader.from_url(engine, redis_server.url, enabled=False, fallback=False)
    assert reader.get_dojo_stats(REFERENCE) == COMPUTED
    assert not cache.exists(JOB)
    reader.close()


def test_the_switches_of_the_environment_are_heeded(
    engine: Any, redis_server: embedded.Redis, cache: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not cache.dbsize()
    monkeypatch.setenv("BACKGROUND_STATS_FALLBACK", "0")
    reader = Reader.from_url(engine, redis_server.url)
    assert reader.get_dojo_stats(REFERENCE) == empty()
    reader.close()


@pytest.mark.parametrize("fallback", [True, False])
def test_a_redis_that_refuses_is_a_miss(engine: Any, fallback: bool) -> None:
    reader = Reader.from_url(engine, "redis://127.0.0.1:1", fallback=fallback)
    assert reader.get_dojo_stats(REFERENCE) == (COMPUTED if fallback else empty())
    reader.close()


def test_a_redis_that_never_answers_holds_a_page_up_for_a_bounded_time(engine: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        reader = Reader.from_url(engine, f"redis://127.0.0.1:{black_hole.getsockname()[1]}")
        began = monotonic()
        assert reader.get_dojo_stats(REFERENCE) == COMPUTED
        assert monotonic() - began < 20
        reader.close()


def test_a_value_is_computed_from_one_snapshot(reader: Reader, engine: Any) -> None:
    isolation = []

    def note(connection: Any, *_: object) -> None:
        isolation.append(connection.get_isolation_level())

    sa.event.listen(engine, "before_cursor_execute", note)
    reader.get_dojo_stats(REFERENCE)
    sa.event.remove(engine, "before_cursor_execute", note)
    _finding_the_dojo, *computing = isolation
    assert len(computing) > 1
    assert set(computing) == {"REPEATABLE READ"}
    with engine.connect() as connection:
        assert connection.get_isolation_level() == "READ COMMITTED"


def test_the_rows_are_those_this_test_counts_on(engine: Any) -> None:
    with engine.connect() as connection:
        [solve] = connection.execute(
            sa.select(schema.submissions).where(schema.submissions.c.type == "correct")
        )
    assert (solve.id, solve.user_id, solve.challenge_id) == (ctfd.SOLVE, 2, 2)
    assert solve.date == LONG_AGO
