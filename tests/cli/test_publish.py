"""`statsd publish`: events published by hand, which the consumer handles like all others."""

from typing import Any

import redis

from statsd import keys
from statsd.calculators.dojo_check import DojoCheck
from statsd.events import EVENT_TYPES, BeltsUpdate, ChallengeSolve, decode
from tests.support.commands import Run
from tests.support.daemon_parts import Parts
from tests.support.job_names import after_change
from tests.support.webapp import Dojo, WebApp, solves_of


async def test_an_event_published_by_hand_is_handled(
    parts: Parts, run: Run, webapp: WebApp, dojos: list[Dojo], cache: "redis.Redis"
) -> None:
    first, *_ = dojos
    webapp.solve(webapp.create_user(), webapp.challenge_ids(first)[0])
    code, output, errors = run(
        "publish", "dojo_stats_update", f'{{"dojo_id": {first.dojo_id}}}', DATABASE_URL=""
    )
    assert (code, errors) == (0, "")
    published: Any = cache.xrange(keys.STREAM)
    assert output == f"{published[0][0].decode()}\n"
    while cache.xlen(keys.STREAM):
        await parts.consumer.step()
    assert await parts.answer() == after_change(first) - {DojoCheck(first.dojo_id).name}
    assert solves_of(cache, first)() == 1


def test_fields_are_read_from_standard_input_or_left_out(run: Run, cache: "redis.Redis") -> None:
    text = '{"user_id": 7,\n "challenge_id": 12}\n'
    assert run("publish", "challenge_solve", "-", stdin=text).code == 0
    assert run("publish", "belts_update").code == 0
    entries: Any = cache.xrange(keys.STREAM)
    published = [decode(fields[b"data"]) for _, fields in entries]
    assert published == [ChallengeSolve(user_id=7, challenge_id=12), BeltsUpdate()]


def test_an_unknown_type_is_answered_with_the_list_of_types(run: Run, cache: "redis.Redis") -> None:
    errors = (
        "statsd: there is no event type 'belt_update'; is belts_update meant?\n"
        f"statsd: the types are {', '.join(EVENT_TYPES)}\n"
    )
    assert run("publish", "belt_update") == (2, "", errors)
    assert cache.xlen(keys.STREAM) == 0


def test_an_unavailable_redis_is_reported_in_one_line(run: Run) -> None:
    code, output, errors = run("publish", "belts_update", REDIS_URL="redis://127.0.0.1:1")
    assert (code, output) == (1, "")
    assert errors.startswith("statsd: Redis (REDIS_URL) does not serve:")
    assert errors.count("\n") == 1
