"""Comparing cached values: those of many jobs for one moment, and each value for its own as-of."""

from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest
import redis

from statsd import keys
from statsd.calculators.dojo_arrays import Boards
from statsd.calculators.dojo_stats import DojoStats
from statsd.consistency.compare import Comparison
from statsd.job import Job
from tests.oracles.stored_boards import value_of
from tests.support.dojo_site import DojoSite
from tests.support.webapp import now


@pytest.fixture
async def old_board(dojo_site: DojoSite, cache: "redis.Redis") -> str:
    """The key of a board of a week, whose value is eight days old, and was right then."""
    await dojo_site.solve(1, 0, ago=timedelta(days=9))
    await dojo_site.answer()
    key = keys.scoreboard(dojo_site.dojo.dojo_id, days=7)
    [newest] = value_of(cache, key)
    [_, older] = value_of(cache, keys.scoreboard(dojo_site.dojo.dojo_id))
    assert (newest["user_id"], older["user_id"]) == (dojo_site.users[0].id, dojo_site.users[1].id)
    write(cache, key, [newest, older], now() - timedelta(days=8))
    return key


def write(cache: "redis.Redis", key: str, value: Any, as_of: datetime) -> None:
    cache.set(key, orjson.dumps(value))
    cache.set(keys.updated(key), f"{(as_of - datetime(1970, 1, 1)).total_seconds():.6f}")  # noqa: DTZ001 - naive UTC


async def differences(site: DojoSite, *more: Job) -> dict[str, list[str]]:
    comparison = Comparison(site.cache, site.database)
    jobs = [site.whole, site.stats, *more]
    result = await comparison.compare(jobs, now())
    assert result.failures == []
    return {each.job.name: each.descriptions for each in result.differences}


async def test_each_array_of_a_dojo_is_compared_for_its_own_as_of(
    dojo_site: DojoSite, cache: "redis.Redis", old_board: str
) -> None:
    """The others of the dojo, and of another one, are of the present."""
    other = dojo_site.webapp.create_dojo()
    await dojo_site.consume()
    others = [Boards(other.dojo_id), DojoStats(other.dojo_id)]
    assert await differences(dojo_site, *others) == {}
    right = value_of(cache, old_board)
    write(cache, old_board, right, now())
    wrong = {dojo_site.whole.name: ["scoreboard: differs"]}
    assert await differences(dojo_site, *others) == wrong
    write(cache, old_board, right[:1], now() - timedelta(days=8))
    assert await differences(dojo_site, *others) == {}, "it is right for the present too"
    write(cache, old_board, right[1:], now() - timedelta(days=8))
    assert await differences(dojo_site, *others) == wrong


async def test_the_same_value_in_another_form_is_no_difference(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    key = keys.scoreboard(dojo_site.dojo.dojo_id)
    value = [{name: each[name] for name in reversed(each)} for each in value_of(cache, key)]
    cache.set(key, orjson.dumps(value, option=orjson.OPT_INDENT_2))
    assert await differences(dojo_site) == {}


async def test_a_key_that_should_not_be_there_is_a_difference(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    job = dojo_site.whole
    raw: Any = cache.hget(keys.KEY_INDEX, job.name)
    cache.hset(keys.KEY_INDEX, job.name, orjson.dumps([*orjson.loads(raw), "stats:what:1"]))
    assert await differences(dojo_site) == {}, "it is not there"
    cache.set("stats:what:1", "1")
    assert await differences(dojo_site) == {job.name: ["what: should not be there"]}
