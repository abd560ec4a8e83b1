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


class ProcessEnd:
    """Records the exit codes instead of ending the process."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.called = threading.Event()

    def __call__(self, code: int) -> None:
        self.codes.append(code)
        self.called.set()


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
    end: ProcessEnd, *, silent: float = LONG, hanging: float = LONG, is_waiting: bool = False
) -> Liveness:
    """Return a watchdog with a short interval; `silent` and `hanging` are limits in seconds."""
    limits = Limits(blocked=LONG, silent=silent, hanging=hanging)
    return Liveness(limits, lambda: is_waiting, interval=0.01, end=end)


def has_watchdog() -> bool:
    """Return whether the thread of the watchdog runs."""
    return "liveness" in {thread.name for thread in threading.enumerate()}


def test_a_consumer_that_finishes_no_step_is_a_problem() -> None:
    """It tries all the time."""
    began = monotonic() - 5
    with (
        watching(ProcessEnd(), silent=0.5) as liveness,
        liveness.consuming(monotonic, lambda: began),
    ):
        [problem] = liveness.problems()
    assert problem.startswith("the consumer has finished nothing for 5 seconds")


def test_a_hanging_consumer_ends_the_process() -> None:
    end, began = ProcessEnd(), monotonic()
    with watching(end, hanging=0.2) as liveness, liveness.consuming(lambda: began, monotonic):
        assert end.called.wait(DEADLINE)
    assert monotonic() - began > 0.2
    assert end.codes == [1]


def test_a_running_consumer_does_not_end_the_process() -> None:
    end, checks = ProcessEnd(), threading.Semaphore(0)

    def last_run() -> float:
        checks.release()
        return monotonic()

    with watching(end, hanging=0.2) as liveness, liveness.consuming(last_run, monotonic):
        for _ in range(50):
            assert checks.acquire(timeout=DEADLINE)
    assert not end.codes


def test_the_watchdog_ends_with_its_context() -> None:
    end = ProcessEnd()
    with watching(end, hanging=0.01) as liveness, liveness.consuming(monotonic, monotonic):
        assert has_watchdog()
    assert not has_watchdog()
    assert not end.codes


def test_a_draining_consumer_is_not_silent() -> None:
    began = monotonic() - LONG
    liveness = watching(ProcessEnd(), silent=1)
    with liveness.consuming(lambda: began, monotonic):
        eventually(lambda: liveness.consumer_silence > 0, "the consumer is watched")
    assert liveness.consumer_silence == 0
    assert not liveness.problems()


async def test_a_consumer_waiting_for_a_server_is_not_silent() -> None:
    began = monotonic() - LONG
    for is_waiting in (True, False):
        liveness = watching(ProcessEnd(), is_waiting=is_waiting)
        await liveness.step()
        with liveness.consuming(lambda: began, monotonic):
            assert (liveness.consumer_silence < LONG / 2) == is_waiting


def test_a_blocked_log_does_not_keep_a_hanging_process_alive() -> None:
    end, log, began = ProcessEnd(), BlockedLog(), monotonic()
    threads = set(threading.enumerate())
    logger = logging.getLogger("statsd.observability.liveness")
    logger.addHandler(log)
    try:
        with (
            watching(end, silent=0.05, hanging=0.2) as liveness,
            liveness.consuming(lambda: began, monotonic),
        ):
            assert log.reached.wait(DEADLINE)  # while logging that the consumer is silent
            assert end.called.wait(DEADLINE)
    finally:
        log.released.set()
        for thread in set(threading.enumerate()) - threads:
            thread.join(DEADLINE)  # the next test must not find its lines
        logger.removeHandler(log)
    assert end.codes == [1]


def test_the_silence_of_the_consumer_and_its_end_are_logged_once_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    last_run = monotonic() - 1

    def events() -> list[str]:
        return [record.getMessage() for record in caplog.records]

    watchdog = watching(ProcessEnd(), silent=0.5)
    with watchdog as liveness, liveness.consuming(lambda: last_run, monotonic):
        eventually(lambda: "the consumer is silent" in events(), "the silence is logged")
        sleep(0.05)  # several checks
        last_run = monotonic() + LONG
        eventually(lambda: "the consumer runs again" in events(), "its end is logged")
    assert events() == ["the consumer is silent", "the consumer runs again"]


async def test_the_longest_delay_of_the_loop_is_measured() -> None:
    liveness = watching(ProcessEnd())
    step = asyncio.create_task(liveness.step())
    await asyncio.sleep(0)  # the step begins
    sleep(0.3)  # noqa: ASYNC251 - blocks the loop
    await step
    assert 0.15 < liveness.take_lag() < DEADLINE
    assert liveness.recent_lag > 0.15
    assert liveness.take_lag() == 0


def test_the_longest_wait_that_the_settings_allow_is_no_hang() -> None:
    given = {
        "DATABASE_URL": "postgresql://db/ctfd",
        "STATSD_BLOCK": "30",
        "STATSD_DRAIN_DEADLINE": "60",
        "STATSD_STATEMENT_TIMEOUT": "1",
    }
    assert limits_of(load(given)).hanging > 30 + READ_MARGIN
    slow = load(given | {"STATSD_BLOCK": "1", "STATSD_STATEMENT_TIMEOUT": "59"})
    assert limits_of(slow).hanging > POOL_TIMEOUT + CONNECT_TIMEOUT + 59 + ANSWER_MARGIN
