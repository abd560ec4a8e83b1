"""Who is woken, and who is woken once more."""

import asyncio
from collections.abc import Iterator

import pytest

from statsd.jobs.wakeup import PreferFirst, WakeUp

LONG = 60.0  # seconds: nobody wakes by himself


class Sleepers:
    """Sleeps at bells, and notes who was woken."""

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
        await self.turns()

    async def turns(self) -> None:
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


async def test_the_second_is_rung_where_nobody_sleeps_at_the_first(sleepers: Sleepers) -> None:
    await sleepers.sleep("second")
    assert sleepers.both.wake() is sleepers.second
    await sleepers.turns()
    assert sleepers.woken == ["second"]
    await sleepers.sleep("first")
    assert sleepers.both.wake() is sleepers.first
    await sleepers.turns()
    assert sleepers.woken == ["second", "first"]


async def test_who_looked_too_soon_is_woken_again(sleepers: Sleepers) -> None:
    await sleepers.sleep("first")
    woken = sleepers.both.wake()
    await sleepers.sleep("first")
    assert sleepers.woken == ["first"]
    sleepers.both.repeat(woken)
    await sleepers.turns()
    assert sleepers.woken == ["first", "first"]


async def test_who_has_not_lain_down_yet_does_not_sleep(sleepers: Sleepers) -> None:
    await sleepers.sleep("first")
    await sleepers.sleep("second")
    woken = sleepers.both.wake()
    await sleepers.turns()
    sleepers.both.repeat(woken)
    await sleepers.turns()
    assert sleepers.woken == ["first"]
    await sleepers.sleep("first")
    assert sleepers.woken == ["first", "first"]


async def test_who_has_lain_down_at_the_first_since_is_woken_before_others(
    sleepers: Sleepers,
) -> None:
    woken = sleepers.both.wake()
    assert woken is sleepers.second
    await sleepers.sleep("first")
    sleepers.both.repeat(woken)
    await sleepers.turns()
    assert sleepers.woken == ["first"]
