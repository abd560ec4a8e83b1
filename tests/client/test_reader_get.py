"""`get`, which reads any statistic with one key for each job, sync and async."""

from typing import Any

import orjson
import pytest
import redis

from statsd import keys
from statsd.calculators.activity import Activity, empty as empty_activity
from statsd.calculators.belts import Belts
from statsd.calculators.dojo_arrays import Boards
from statsd.calculators.dojo_stats import DojoStats
from statsd.calculators.references import find_subject
from statsd.calculators.scoreboard import Scoreboard
from statsd.calculators.user_entries import UserEntries
from tests.client.conftest import Read
from tests.client.ctfd import DOJO

pytestmark = pytest.mark.usefixtures("required")

NOBODY = 999
ROWS = {Activity(2): (2,), UserEntries(DOJO, 2): (DOJO, 2), Scoreboard(DOJO): (DOJO,)}


async def test_a_hit_is_the_cached_value(read: Read, cache: redis.Redis) -> None:
    cache.set(keys.activity(2), orjson.dumps({"total_solves": 77}))
    assert await read("get", Activity(2)) == {"total_solves": 77}


async def test_a_miss_is_computed_and_enqueued(read: Read, cache: redis.Redis) -> None:
    assert await read("get", Activity(2)) == await read("get_activity", 2)
    assert cache.hget(keys.job(Activity(2).name), "class") == b"0"
    assert await read("get", Belts()) == await read("get_belts")
    assert cache.hget(keys.job(Belts().name), "class") == b"0"


@pytest.mark.parametrize("user_id", [NOBODY, 2**31])
async def test_a_user_who_does_not_exist_has_the_empty_value(
    read: Read, cache: redis.Redis, user_id: int
) -> None:
    assert await read("get", Activity(user_id)) == empty_activity()
    assert not cache.exists(keys.job(Activity(user_id).name))


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        (Scoreboard(DOJO), "has no key of its own"),
        (Boards(DOJO), "has no key of its own"),
        (DojoStats(DOJO), "has no key of its own"),
        (UserEntries(DOJO, 2), "is no statistic"),
        ("belts", "is no statistic"),
        (Activity("2"), "user_id must be an int, not str"),  # type: ignore[arg-type] # the point
    ],
    ids=repr,
)
async def test_a_job_without_a_single_key_is_refused(read: Read, job: Any, reason: str) -> None:
    with pytest.raises(TypeError, match=reason):
        await read("get", job)


@pytest.mark.parametrize("job", ROWS, ids=repr)
def test_the_dojo_and_the_user_of_a_job_are_found(engine: Any, job: Any) -> None:
    with engine.connect() as connection:
        assert connection.execute(find_subject(job)).all() == [ROWS[job]]


@pytest.mark.parametrize("job", [Activity(NOBODY), UserEntries(DOJO, NOBODY)], ids=repr)
def test_a_dojo_or_user_that_does_not_exist_is_not_found(engine: Any, job: Any) -> None:
    with engine.connect() as connection:
        assert connection.execute(find_subject(job)).all() == []
