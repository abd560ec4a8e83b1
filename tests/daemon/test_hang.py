"""A daemon whose consumer hangs ends, and its events stay for the next one."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import orjson
import redis

from statsd import keys
from statsd.dev import embedded
from tests.support.processes import DEADLINE, environment

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
        "STATSD_BATCH_SIZE": "1",  # one log for each
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
        assert [process.wait(3 * DEADLINE) for process in processes] == [1, 1]
    for log in logs:
        text = log.read_text()
        assert "the consumer hangs; ending the process" in text
        assert "Current thread" in text  # the stacks of all threads
    assert cache.xpending(keys.STREAM, keys.GROUP)["pending"] == len(HOW)
