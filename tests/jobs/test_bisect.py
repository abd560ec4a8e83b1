import asyncio
from collections.abc import Sequence
from math import ceil, log2

import pytest
import redis
from hypothesis import given, strategies as st

from statsd.jobs.bisect import bisect


class Work:
    """Work that fails on any batch with a failing item, and counts its calls."""

    def __init__(self, failing: set[int]) -> None:
        self.failing = failing
        self.done: list[int] = []
        self.calls = 0

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.calls += 1
        for item in items:
            if item in self.failing:
                raise ValueError(item)
        self.done.extend(items)
        return list(items)


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[int], set[int]]:
    items = draw(st.lists(st.integers(0, 200), unique=True, min_size=1, max_size=60))
    return items, set(draw(st.lists(st.sampled_from(items))))


@given(batches())
def test_good_items_succeed_once_and_each_failed_item_is_reported_once(
    batch: tuple[list[int], set[int]],
) -> None:
    items, failing = batch
    work = Work(failing)
    results, failures = asyncio.run(bisect(items, work))
    others = [item for item in items if item not in failing]
    assert work.done == others
    assert [item for result in results for item in result] == others
    assert [item for item, _ in failures] == [item for item in items if item in failing]
    assert all(str(error) == str(item) for item, error in failures)


async def test_a_batch_without_failures_is_one_call() -> None:
    work = Work(set())
    assert await bisect(range(500), work) == ([list(range(500))], [])
    assert work.calls == 1


@given(st.integers(2, 500), st.data())
def test_one_failure_costs_two_calls_for_each_halving(size: int, data: st.DataObject) -> None:
    work = Work({data.draw(st.integers(0, size - 1))})
    asyncio.run(bisect(range(size), work))
    assert work.calls <= 1 + 2 * ceil(log2(size))


async def test_a_failure_has_the_original_error() -> None:
    mistake = KeyError("missing")

    async def work(_items: Sequence[str]) -> None:
        raise mistake

    assert await bisect(["only"], work) == ([], [("only", mistake)])


@pytest.mark.parametrize(
    "outage", [redis.ConnectionError("gone"), ConnectionResetError(), TimeoutError()], ids=repr
)
async def test_an_outage_is_raised_at_once(outage: Exception) -> None:
    calls = 0

    async def work(_items: Sequence[int]) -> None:
        nonlocal calls
        calls += 1
        raise outage

    with pytest.raises(type(outage)) as raised:
        await bisect([1, 2, 3], work)
    assert raised.value is outage
    assert calls == 1


async def test_an_outage_during_a_bisection_is_raised() -> None:
    async def work(items: Sequence[int]) -> None:
        if len(items) == 1:
            raise redis.ConnectionError
        raise ValueError

    with pytest.raises(redis.ConnectionError):
        await bisect([1, 2, 3, 4], work)


async def test_a_cancellation_is_raised() -> None:
    async def work(_items: Sequence[int]) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await bisect([1, 2], work)
