"""A process whose consumer hangs is ended; blocked and silent parts are logged."""

import asyncio
import logging
import threading
from time import monotonic, sleep

import pytest

from statsd.observability.liveness import Limits, Liveness, limits_of
from statsd.servers.database import ANSWER_MARGIN, CONNECT_TIMEOUT, POOL_TIMEOUT
from statsd.servers.redis_client import READ_MARGIN
from statsd.settings import load
from tests.support.processes import DEADLINE, eventually

LONG = 1000.0  # seconds


class End:
    """Replaces the end of the process."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.came = threading.Event()

    def __call__(self, code: int) -> None:
        self.codes.append(code)
        self.came.set()


class BlockedLog(logging.Handler):
    """A log that blocks until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()
        self.reached = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002 - as the base class has it
        self.reached.set()
        self.released.wait(2 * DEADLINE)


def watching(
    end: End, *, silent: float = LONG, hanging: float = LONG, is_waiting: bool = False
) -> Liveness:
    """Return one that looks often, with some limits."""
    limits = Limits(blocked=LONG, silent=silent, hanging=hanging)
    return Liveness(limits, lambda: is_waiting, interval=0.01, end=end)


def is_watched() -> bool:
    return "liveness" in {thread.name for thread in threading.enumerate()}


def test_a_consumer_that_hangs_ends_the_process() -> None:
    end, began = End(), monotonic()
    with watching(end, hanging=0.2) as liveness, liveness.consuming(lambda: began):
        assert end.came.wait(DEADLINE)
    assert monotonic() - began > 0.2
    assert end.codes == [1]


def test_a_consumer_that_runs_is_left_alone() -> None:
    end, looks = End(), threading.Semaphore(0)

    def last_turn() -> float:
        looks.release()
        return monotonic()

    with watching(end, hanging=0.2) as liveness, liveness.consuming(last_turn):
        for _ in range(50):
            assert looks.acquire(timeout=DEADLINE)
    assert not end.codes


def test_nothing_is_watched_once_the_context_is_closed() -> None:
    end = End()
    with watching(end, hanging=0.01) as liveness, liveness.consuming(monotonic):
        assert is_watched()
    assert not is_watched()
    assert not end.codes


def test_a_consumer_that_drains_is_not_silent() -> None:
    began = monotonic() - LONG
    liveness = watching(End(), silent=1)
    with liveness.consuming(lambda: began):
        eventually(lambda: liveness.consumer_silence > 0, "it is watched")
    assert liveness.consumer_silence == 0
    assert not liveness.problems()


async def test_a_consumer_that_waits_for_a_server_is_not_silent() -> None:
    began = monotonic() - LONG
    for is_waiting in (True, False):
        liveness = watching(End(), is_waiting=is_waiting)
        await liveness.step()
        with liveness.consuming(lambda: began):
            assert (liveness.consumer_silence < LONG / 2) == is_waiting


def test_a_blocked_log_does_not_keep_a_hanging_process_alive() -> None:
    end, log, began = End(), BlockedLog(), monotonic()
    logger = logging.getLogger("statsd.observability.liveness")
    logger.addHandler(log)
    try:
        with (
            watching(end, silent=0.05, hanging=0.2) as liveness,
            liveness.consuming(lambda: began),
        ):
            assert log.reached.wait(DEADLINE)  # it wants to say that the consumer is silent
            assert end.came.wait(DEADLINE)
    finally:
        log.released.set()
        logger.removeHandler(log)
    assert end.codes == [1]


def test_silence_is_logged_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    turned = monotonic() - 1

    def events() -> list[str]:
        return [record.getMessage() for record in caplog.records]

    with watching(End(), silent=0.5) as liveness, liveness.consuming(lambda: turned):
        eventually(lambda: "the consumer is silent" in events(), "the silence is logged")
        sleep(0.05)  # several looks
        turned = monotonic() + LONG
        eventually(lambda: "the consumer runs again" in events(), "its end is logged")
    assert events() == ["the consumer is silent", "the consumer runs again"]


async def test_the_longest_delay_of_the_loop_is_measured() -> None:
    liveness = watching(End())
    step = asyncio.create_task(liveness.step())
    await asyncio.sleep(0)  # it begins
    sleep(0.3)  # noqa: ASYNC251 - blocks the loop
    await step
    assert 0.15 < liveness.take_lag() < DEADLINE
    assert liveness.recent_lag > 0.15
    assert liveness.take_lag() == 0


def test_a_consumer_that_waits_as_long_as_the_settings_allow_does_not_hang() -> None:
    given = {
        "DATABASE_URL": "postgresql://db/ctfd",
        "STATSD_BLOCK": "30",
        "STATSD_DRAIN_DEADLINE": "60",
        "STATSD_STATEMENT_TIMEOUT": "1",
    }
    assert limits_of(load(given)).hanging > 30 + READ_MARGIN
    slow = load(given | {"STATSD_BLOCK": "1", "STATSD_STATEMENT_TIMEOUT": "59"})
    assert limits_of(slow).hanging > POOL_TIMEOUT + CONNECT_TIMEOUT + 59 + ANSWER_MARGIN
