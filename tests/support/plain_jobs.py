"""Refreshes of nothing in particular, and how one daemon takes and answers them."""

from typing import ClassVar

from redis.asyncio import Redis

from statsd.consistency.reconcile import Reconcile
from statsd.job import Job, register_kind
from statsd.jobs.queue import Answer, Attempt, LeaseRequest, Queue
from tests.support.processes import statuses

BATCHES = LeaseRequest({"reconcile": 1, "thing": 10, "other": 1})
KEY = "stats:thing:1"


class Thing(Job, frozen=True):
    kind: ClassVar[str] = "thing"
    number: int


class Other(Job, frozen=True):
    kind: ClassVar[str] = "other"
    number: int


for each in (Thing, Other):
    register_kind(each)


def queue_of(client: Redis, owner: str, lease: float = 30) -> Queue:
    return Queue(client, owner, lease=lease, dead_limit=3)


async def begun(client: Redis, owner: str) -> Queue:
    """The marks as one daemon sees them, with the first clock's reconciliation behind it."""
    queue = queue_of(client, owner)
    await queue.enqueue([])
    reconciling = await take(queue)
    assert reconciling.names == (Reconcile().name,)
    assert statuses(await queue.complete(reconciling, {Reconcile().name: Answer({})})) == [
        "completed"
    ]
    return queue


async def take(queue: Queue) -> Attempt:
    leased = await queue.lease(BATCHES)
    assert leased.attempt is not None
    return leased.attempt


async def nothing_due(queue: Queue) -> bool:
    return (await queue.lease(BATCHES)).attempt is None


def answer(value: object, key: str = KEY) -> dict[str, Answer]:
    return {Thing(1).name: Answer({key: value})}
