"""Which worker a wake-up wakes, and which one a repeated wake-up."""

import asyncio
from collections.abc import Iterator

import pytest

from statsd.jobs.wakeup import PreferFirst, WakeUp

LONG = 60.0  # seconds: no sleeper wakes without a signal


class Sleepers:
    """Workers that sleep at two wake-ups; `woken` names the wake-up of each one woken."""

    def __init__(self) -> None:
        self.woken: list[str] = []
        self.first, self.second = WakeUp(), WakeUp()
        self.both = PreferFirst(self.first, self.second)
        self._tasks: list[asyncio.Task[None]] = []

    async def sleep(self, name: str) -> None:
        async def sleep() -> None:
            await getattr(self, name).sleep(LONG)
            self.woken.append(name)

        self._tasks.append(asyncio.create_task(sleep()))
        await self.let_others_run()

    async def let_others_run(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    def end(self) -> None:
        for task in self._tasks:
            task.cancel()


@pytest.fixture
def sleepers() -> Iterator[Sleepers]:
    own = Sleepers()
    yield own
    own.end()


async def test_the_second_wake_up_is_used_if_no_worker_sleeps_at_the_first(
    sleepers: Sleepers,
) -> None:
    await sleepers.sleep("second")
    assert sleepers.both.wake() is sleepers.second
    await sleepers.let_others_run()
    assert sleepers.woken == ["second"]
    await sleepers.sleep("first")
    assert sleepers.both.wake() is sleepers.first
    await sleepers.let_others_run()
    assert sleepers.woken == ["second", "first"]


async def test_a_worker_that_looked_too_soon_is_woken_again(sleepers: Sleepers) -> None:
    await sleepers.sleep("first")
    woken = sleepers.both.wake()
    await sleepers.sleep("first")
    assert sleepers.woken == ["first"]
    sleepers.both.repeat(woken)
    await sleepers.let_others_run()
    assert sleepers.woken == ["first", "first"]


async def test_a_repeated_signal_is_kept_for_a_worker_about_to_sleep(sleepers: Sleepers) -> None:
    await sleepers.sleep("first")
    await sleepers.sleep("second")
    woken = sleepers.both.wake()
    await sleepers.let_others_run()
    sleepers.both.repeat(woken)
    await sleepers.let_others_run()
    assert sleepers.woken == ["first"]
    await sleepers.sleep("first")
    assert sleepers.woken == ["first", "first"]


async def test_a_worker_that_sleeps_at_the_first_by_now_is_woken_before_others(
    sleepers: Sleepers,
) -> None:
    woken = sleepers.both.wake()
    assert woken is sleepers.second
    await sleepers.sleep("first")
    sleepers.both.repeat(woken)
    await sleepers.let_others_run()
    assert sleepers.woken == ["first"]
