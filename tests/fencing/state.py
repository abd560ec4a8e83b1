"""The world and the states of the model of the fencing protocol, and a canonical form of states.

Only the order of moments matters. A state numbers them 0, 2, 4, ... in their order; the odd numbers
between are free for a new moment.
"""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

NOBODY = -1  # the holder of a lease whose worker has crashed


class Due(Enum):
    """When a job is due. FAR: after the server's clock has caught up, which takes too long."""

    NOW, LEASED, FAR = range(3)


class PendingJob(NamedTuple):
    """A pending job; `holder` is the worker whose lease is in Redis."""

    enqueued: int
    due: Due = Due.NOW
    holder: int | None = None


class Key(NamedTuple):
    """The key: the database version of its value, and its as-of."""

    version: int | None = None
    as_of: int | None = None


class Attempt(NamedTuple):
    """The job of a worker, and the database version when the worker got its token."""

    name: int
    token: int
    began: int
    this_epoch: bool = True
    version: int | None = None
    """The database version of its snapshot; None before the snapshot is opened."""


class State(NamedTuple):
    """The state of database, producer, stream, consumer, queue, cache, clock and workers."""

    queue: tuple[PendingJob | None, ...]
    key_index: tuple[bool, ...]
    workers: tuple[Attempt | None, ...]
    key: Key
    owner: int | None
    made: int = 0  # half changes: each change is a commit and an event, in either order
    unread: int = 0  # entries of the stream
    read: int = 0  # entries of the stream that the consumer has read
    planned: tuple[int, ...] = ()  # for each event that was read, the bits of its delayed jobs
    delayed: int = 0  # a bit for each change with a delayed job
    last: int | None = 0  # the newest token; None: the clock is missing
    behind: bool = False  # the server's clock shows less than the newest token
    reconcile: bool = False
    dead_letter: int | None = None  # the database version at the start of its last attempt
    faults: int = 0


@dataclass(frozen=True)
class World:
    """The changes, faults and workers of one search."""

    holders: tuple[int | None, ...]
    """For each version of the database the job that has the key."""
    early: tuple[bool, ...]
    """For each change whether its event is published before it is committed."""
    faults: frozenset[str] = frozenset()
    """The faults that may happen, from FAULTS."""
    most_faults: int = 0
    workers: int = 2

    @property
    def names(self) -> range:
        """The jobs, by number."""
        return range(1 + max(holder or 0 for holder in self.holders))

    def start(self) -> State:
        """Return the initial state: all jobs are completed."""
        idle: tuple[None, ...] = (None,) * self.workers
        key_index = tuple(name == self.holders[0] for name in self.names)
        pending: tuple[None, ...] = (None,) * len(self.names)
        return State(pending, key_index, idle, Key(0, 0), self.holders[0])

    def version(self, state: State) -> int:
        """Return the version of the database."""
        whole, half = divmod(state.made, 2)
        return whole + (half if half and not self.early[whole] else 0)

    def under_way(self, state: State) -> int:
        """Return the bit of a change whose event is published before its commit, else 0."""
        whole, half = divmod(state.made, 2)
        return 1 << whole if half and self.early[whole] else 0


def newest(state: State) -> int:
    """Return the newest moment in a state."""
    moments = [attempt.token for attempt in state.workers if attempt]
    moments += [job.enqueued for job in state.queue if job]
    return max(*moments, state.last or 0, state.key.as_of or 0, 0)


def with_pending(state: State, name: int, job: PendingJob | None) -> State:
    """Return the state with another value for a pending job."""
    return state._replace(queue=(*state.queue[:name], job, *state.queue[name + 1 :]))


def with_attempt(state: State, worker: int, attempt: Attempt | None) -> State:
    """Return the state with another attempt of a worker."""
    workers = (*state.workers[:worker], attempt, *state.workers[worker + 1 :])
    return state._replace(workers=workers)


def without_clock(state: State) -> State:
    """Return the state after the loss of the clock key."""
    workers = tuple(a and a._replace(this_epoch=False) for a in state.workers)
    return state._replace(last=None, workers=workers)


def cleared(state: State) -> State:
    """Return the state after the loss of all keys but the stream."""
    return without_clock(state)._replace(
        queue=(None,) * len(state.queue),
        key_index=(False,) * len(state.key_index),
        key=Key(),
        owner=None,
        delayed=0,
        reconcile=False,
    )


def canonical(state: State) -> State:
    """Return an equal state with moments numbered by rank, and workers in a fixed order."""
    moments = {attempt.token for attempt in state.workers if attempt}
    moments |= {job.enqueued for job in state.queue if job}
    moments |= {moment for moment in (state.last, state.key.as_of) if moment is not None}
    rank = {moment: 2 * number for number, moment in enumerate(sorted(moments))}
    order = sorted(range(len(state.workers)), key=lambda worker: _sorting(state, worker))
    positions = {worker: position for position, worker in enumerate(order)}

    def queue_of(name: int, job: PendingJob | None) -> PendingJob | None:
        if job is None:
            return None
        holder = job.holder
        if holder is not None:
            attempt = state.workers[holder] if holder != NOBODY else None
            holder = positions[holder] if attempt and attempt.name == name else NOBODY
        return PendingJob(rank[job.enqueued], job.due, holder)

    def attempt_of(attempt: Attempt | None) -> Attempt | None:
        return attempt and attempt._replace(token=rank[attempt.token])

    as_of = state.key.as_of
    return state._replace(
        queue=tuple(queue_of(name, job) for name, job in enumerate(state.queue)),
        workers=tuple(attempt_of(state.workers[worker]) for worker in order),
        last=None if state.last is None else rank[state.last],
        key=Key(state.key.version, None if as_of is None else rank[as_of]),
    )


def _sorting(state: State, worker: int) -> tuple[int, ...]:
    attempt = state.workers[worker]
    if attempt is None:
        return (-1,)
    version = -1 if attempt.version is None else attempt.version
    job = state.queue[attempt.name]
    holds = job is not None and job.holder == worker
    return (attempt.token, attempt.name, version, attempt.this_epoch, attempt.began, holds)
