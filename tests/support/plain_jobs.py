"""Refreshes of nothing in particular, and how one daemon takes and answers them."""

from typing import ClassVar

from redis.asyncio import Redis

from statsd.consistency.reconcile import Reconcile
from statsd.job import Refresh, register_kind
from statsd.jobs.queue import Answer, Attempt, Choice, Marks
from tests.support.processes import statuses

BATCHES = Choice({"reconcile": 1, "thing": 10, "other": 1})
KEY = "stats:thing:1"


class Thing(Refresh, frozen=True):
    kind: ClassVar[str] = "thing"
    number: int


class Other(Refresh, frozen=True):
    kind: ClassVar[str] = "other"
    number: int


for each in (Thing, Other):
    register_kind(each)


def marks_of(client: Redis, owner: str, lease: float = 30) -> Marks:
    return Marks(client, owner, lease=lease, dead_limit=3)


async def begun(client: Redis, owner: str) -> Marks:
    """The marks as one daemon sees them, with the first clock's reconciliation behind it."""
    marks = marks_of(client, owner)
    await marks.mark([])
    reconciling = await take(marks)
    assert reconciling.names == (Reconcile().name,)
    assert statuses(await marks.settle(reconciling, {Reconcile().name: Answer({})})) == ["settled"]
    return marks


async def take(marks: Marks) -> Attempt:
    taken = await marks.take(BATCHES)
    assert taken.attempt is not None
    return taken.attempt


async def nothing_due(marks: Marks) -> bool:
    return (await marks.take(BATCHES)).attempt is None


def answer(value: object, key: str = KEY) -> dict[str, Answer]:
    return {Thing(1).name: Answer({key: value})}
