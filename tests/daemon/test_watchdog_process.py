"""A daemon that is alive and no longer consumes ends, and the next one does its work."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import orjson
import redis

from statsd import keys
from statsd.dev import embedded
from tests.support.processes import environment

# A real daemon, but for one handler that never comes back: by awaiting for ever, which leaves
# the event loop turning, or by blocking the loop itself.
HANGING = """
import asyncio, sys, time
from statsd import handlers, registry
from statsd.cli import app
from statsd.events import DojoStatsUpdate

async def hang(events, lookup):
    {how}

registry._handlers[DojoStatsUpdate] = hang
app(["run"])
"""


HOW = ["await asyncio.Event().wait()", "time.sleep(600)"]


def test_daemons_whose_consumer_hangs_end_and_leave_their_events(
    database: str, redis_server: embedded.Redis, cache: "redis.Redis", tmp_path: Path
) -> None:
    data = orjson.dumps({"type": "dojo_stats_update", "payload": {"dojo_id": 1}})
    for _ in HOW:
        cache.xadd(keys.STREAM, {"data": data})
    variables = {
        "DATABASE_URL": database,
        "REDIS_URL": redis_server.url,
        "STATSD_STATEMENT_TIMEOUT": "1",
        "STATSD_BATCH_SIZE": "1",  # one for each
    }
    logs = [tmp_path / f"log{number}" for number in range(len(HOW))]
    with ExitStack() as exits:
        processes = []
        for number, (how, log) in enumerate(zip(HOW, logs, strict=True)):
            output = exits.enter_context(log.open("wb"))
            process = subprocess.Popen(
                [sys.executable, "-c", HANGING.format(how=how)],
                env=environment(variables | {"STATSD_CONSUMER_SUFFIX": str(number)}),
                stdout=output,
                stderr=output,
            )
            exits.callback(process.kill)
            processes.append(process)
        assert [process.wait(60) for process in processes] == [1, 1]
    for log in logs:
        said = log.read_text()
        assert "the consumer no longer comes round; ending the process" in said
        assert "Current thread" in said  # where it hung
    assert cache.xpending(keys.STREAM, keys.GROUP)["pending"] == len(HOW)
