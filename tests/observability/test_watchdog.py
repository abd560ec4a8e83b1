"""A process whose consumer no longer comes round is ended."""

import threading
from time import monotonic

from statsd.daemon import stuck_after
from statsd.observability.watchdog import Watchdog
from statsd.servers.database import ANSWER_MARGIN, CONNECT_TIMEOUT, POOL_TIMEOUT
from statsd.servers.redis_client import READ_MARGIN
from statsd.settings import load


class End:
    """Stands for the end of the process."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.came = threading.Event()

    def __call__(self, code: int) -> None:
        self.codes.append(code)
        self.came.set()


def test_a_consumer_that_no_longer_comes_round_ends_the_process() -> None:
    end, began = End(), monotonic()
    with Watchdog(lambda: began, 0.2, interval=0.01, end=end):
        assert end.came.wait(10)
    assert monotonic() - began > 0.2
    assert end.codes == [1]


def test_a_consumer_that_comes_round_is_left_alone() -> None:
    end, looks = End(), threading.Semaphore(0)

    def last_turn() -> float:
        looks.release()
        return monotonic()

    with Watchdog(last_turn, 0.2, interval=0.01, end=end):
        for _ in range(50):
            assert looks.acquire(timeout=10)
    assert not end.codes


def test_nothing_is_watched_once_the_context_is_closed() -> None:
    end = End()
    with Watchdog(monotonic, 0.01, interval=0.01, end=end) as watchdog:
        pass
    assert not watchdog.watching
    assert not end.codes


def test_a_consumer_that_waits_as_long_as_the_settings_let_it_does_not_hang() -> None:
    given = {
        "DATABASE_URL": "postgresql://db/ctfd",
        "STATSD_BLOCK": "30",
        "STATSD_DRAIN_DEADLINE": "60",
        "STATSD_STATEMENT_TIMEOUT": "1",
    }
    assert stuck_after(load(given)) > 30 + READ_MARGIN
    slow = load(given | {"STATSD_BLOCK": "1", "STATSD_STATEMENT_TIMEOUT": "59"})
    assert stuck_after(slow) > POOL_TIMEOUT + CONNECT_TIMEOUT + 59 + ANSWER_MARGIN
