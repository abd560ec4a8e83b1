"""Two kinds of jobs that compute nothing, and helpers that lease and answer them."""

from typing import ClassVar

from redis.asyncio import Redis

from statsd.consistency.reconcile import Reconcile
from statsd.job import Job, register_kind
from statsd.jobs.attempt import Answer, Attempt
from statsd.jobs.queue import LeaseRequest, Queue
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


def queue_of(client: Redis, owner: str, lease: float = 300) -> Queue:
    """Return the queue of a daemon; `lease` is in seconds."""
    return Queue(client, owner, lease=lease, dead_limit=3)


async def reconciled_queue(client: Redis, owner: str) -> Queue:
    """Return the queue of a daemon; the reconcile of the new clock is completed."""
    queue = queue_of(client, owner)
    await queue.enqueue([])
    reconciling = await lease_due(queue)
    assert reconciling.names == (Reconcile().name,)
    assert statuses(await queue.complete(reconciling, {Reconcile().name: Answer({})})) == [
        "completed"
    ]
    return queue


async def lease_due(queue: Queue) -> Attempt:
    """Lease due jobs; fail if no job is due."""
    leased = await queue.lease(BATCHES)
    assert leased.attempt is not None
    return leased.attempt


async def nothing_due(queue: Queue) -> bool:
    """Try to lease; return whether no job is due."""
    return (await queue.lease(BATCHES)).attempt is None


def answer(value: object, key: str = KEY) -> dict[str, Answer]:
    """Return the answer of `Thing(1)`: one value."""
    return {Thing(1).name: Answer({key: value})}
