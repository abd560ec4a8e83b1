"""`statsd publish`: events by hand, which the consumer takes as it takes all others."""

from typing import Any

import redis

from statsd import keys
from statsd.events import EVENT_TYPES, BeltsUpdate, ChallengeSolve, decode
from tests.support.commands import Run
from tests.support.daemon_parts import Parts
from tests.support.job_names import after_change
from tests.support.webapp import Dojo, WebApp, solves_of


async def test_what_is_published_by_hand_is_handled(
    parts: Parts, run: Run, webapp: WebApp, dojos: list[Dojo], cache: "redis.Redis"
) -> None:
    first, *_ = dojos
    webapp.solve(webapp.create_user(), webapp.challenge_ids(first)[0])
    code, said, complaint = run(
        "publish", "dojo_stats_update", f'{{"dojo_id": {first.dojo_id}}}', DATABASE_URL=""
    )
    assert (code, complaint) == (0, "")
    published: Any = cache.xrange(keys.STREAM)
    assert said == f"{published[0][0].decode()}\n"
    while cache.xlen(keys.STREAM):
        await parts.consumer.step()
    assert await parts.answer() == after_change(first)
    assert solves_of(cache, first)() == 1


def test_fields_come_on_standard_input_too_and_may_be_none(run: Run, cache: "redis.Redis") -> None:
    typed = '{"user_id": 7,\n "challenge_id": 12}\n'
    assert run("publish", "challenge_solve", "-", typed=typed).code == 0
    assert run("publish", "belts_update").code == 0
    entries: Any = cache.xrange(keys.STREAM)
    published = [decode(fields[b"data"]) for _, fields in entries]
    assert published == [ChallengeSolve(user_id=7, challenge_id=12), BeltsUpdate()]


def test_a_type_that_is_none_is_answered_with_all(run: Run, cache: "redis.Redis") -> None:
    complaint = (
        "statsd: there is no event type 'belt_update'; is belts_update meant?\n"
        f"statsd: there are {', '.join(EVENT_TYPES)}\n"
    )
    assert run("publish", "belt_update") == (2, "", complaint)
    assert cache.xlen(keys.STREAM) == 0


def test_a_redis_that_does_not_serve_is_told_in_a_line(run: Run) -> None:
    code, said, complaint = run("publish", "belts_update", REDIS_URL="redis://127.0.0.1:1")
    assert (code, said) == (1, "")
    assert complaint.startswith("statsd: Redis (REDIS_URL) does not serve:")
    assert complaint.count("\n") == 1
