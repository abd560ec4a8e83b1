"""A daemon whose consumer hangs ends, and its events stay for the next one."""

from contextlib import ExitStack
from itertools import product
from pathlib import Path

import orjson
import redis

from statsd import keys
from statsd.dev import embedded
from tests.support.pipes import pipe
from tests.support.processes import DEADLINE, Daemon

# A real daemon, except for one handler that never returns. It either awaits for ever, so that the
# event loop still runs, or blocks the loop itself.
HANGING = """
import asyncio, sys, time
from statsd.cli.app import app
from statsd.events import DojoStatsUpdate
from statsd.handlers import registry

async def hang(events, lookup):
    {how}

registry._handlers[DojoStatsUpdate] = hang
app()
"""


HOW = ["await asyncio.Event().wait()", "time.sleep(600)"]


def test_daemons_whose_consumer_hangs_end_and_leave_their_events(
    database: str, redis_server: embedded.Redis, cache: "redis.Redis", tmp_path: Path
) -> None:
    """Half of them log into a file, and half into a full pipe that nobody reads."""
    cases = list(product(HOW, ["file", "pipe"]))
    data = orjson.dumps({"type": "dojo_stats_update", "payload": {"dojo_id": 1}})
    for _ in cases:
        cache.xadd(keys.STREAM, {"data": data})
    variables = {
        "DATABASE_URL": database,
        "REDIS_URL": redis_server.url,
        "STATSD_STATEMENT_TIMEOUT": "1",
        "STATSD_BATCH_SIZE": "1",  # one log for each
    }
    with ExitStack() as exits:
        full = exits.enter_context(pipe())
        full.fill()
        daemons = []
        for number, (how, output) in enumerate(cases):
            hanging = Daemon(
                tmp_path / f"log{number}",
                variables | {"STATSD_CONSUMER_SUFFIX": str(number)},
                ("-c", HANGING.format(how=how)),
                full.writer if output == "pipe" else None,
            )
            exits.callback(hanging.process.kill)
            daemons.append(hanging)
        assert [each.process.wait(3 * DEADLINE) for each in daemons] == [1] * len(cases)
    for (how, output), each in zip(cases, daemons, strict=True):
        if output == "file":
            each.keeps_to_its_contract()
            [line] = each.lines("the consumer hangs; ending the process")
            assert {"MainThread", "liveness"} <= line["stacks"].keys()
            assert ("hang" in line["stacks"]["MainThread"][0]) == ("sleep" in how)
    assert cache.xpending(keys.STREAM, keys.GROUP)["pending"] == len(cases)
