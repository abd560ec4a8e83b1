"""What the model of the fencing protocol is about: its world, its states, and equal ones.

Only the order of moments matters, so a state numbers them 0, 2, 4, ... in their order, and the
odd numbers between are the places for a new one.
"""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

NOBODY = -1  # holds a lease, and is gone


class Due(Enum):
    """When a mark is due. FAR: when the server's clock has caught up, for which nobody waits."""

    NOW, LEASED, FAR = range(3)


class PendingJob(NamedTuple):
    """What is owed; `holder` is the worker whose lease lies in Redis."""

    enqueued: int
    due: Due = Due.NOW
    holder: int | None = None


class Key(NamedTuple):
    """The key: the version of the database that its value was read from, and its stamp."""

    version: int | None = None
    as_of: int | None = None


class Attempt(NamedTuple):
    """What a worker works on, and the version of the database when it got its token."""

    name: int
    token: int
    began: int
    this_life: bool = True
    version: int | None = None
    """What its snapshot shows, None while it has none."""


class State(NamedTuple):
    """Database and producer, stream and consumer, marks, cache, clock, workers."""

    queue: tuple[PendingJob | None, ...]
    key_index: tuple[bool, ...]
    workers: tuple[Attempt | None, ...]
    key: Key
    owner: int | None
    made: int = 0  # half changes: each change is a commit and an event, in the order it has
    unread: int = 0  # entries of the stream
    read: int = 0  # entries of the stream that the consumer has read
    planned: tuple[int, ...] = ()  # for each event in the consumer's hands what to look at again
    delayed: int = 0  # a bit for each change to be looked at again
    last: int | None = 0  # the newest token; None: there is no clock
    behind: bool = False  # the server's clock shows less than the newest token
    reconcile: bool = False
    letter: int | None = None  # a dead letter, and the version that its attempt began with
    faults: int = 0


@dataclass(frozen=True)
class World:
    """What happens in one search."""

    holders: tuple[int | None, ...]
    """For each version of the database the refresh that has the key."""
    early: tuple[bool, ...]
    """For each change whether its event is published before it is committed."""
    faults: frozenset[str] = frozenset()
    """Those of FAULTS that may happen."""
    most_faults: int = 0
    workers: int = 2

    @property
    def names(self) -> range:
        """The refreshes."""
        return range(1 + max(holder or 0 for holder in self.holders))

    def start(self) -> State:
        """Return the state in which all is answered and nothing has happened."""
        nobody: tuple[None, ...] = (None,) * self.workers
        key_index = tuple(name == self.holders[0] for name in self.names)
        pending: tuple[None, ...] = (None,) * len(self.names)
        return State(pending, key_index, nobody, Key(0, 0), self.holders[0])

    def version(self, state: State) -> int:
        """Return the version of the database."""
        whole, half = divmod(state.made, 2)
        return whole + (half if half and not self.early[whole] else 0)

    def under_way(self, state: State) -> int:
        """Return the bit of a change whose event is published before its commit, else 0."""
        whole, half = divmod(state.made, 2)
        return 1 << whole if half and self.early[whole] else 0


def newest(state: State) -> int:
    """Return the newest moment there is in a state."""
    moments = [attempt.token for attempt in state.workers if attempt]
    moments += [job.enqueued for job in state.queue if job]
    return max(*moments, state.last or 0, state.key.as_of or 0, 0)


def with_pending(state: State, name: int, job: PendingJob | None) -> State:
    """Return the state with another mark for a refresh."""
    return state._replace(queue=(*state.queue[:name], job, *state.queue[name + 1 :]))


def with_attempt(state: State, worker: int, attempt: Attempt | None) -> State:
    """Return the state with a worker at something else."""
    workers = (*state.workers[:worker], attempt, *state.workers[worker + 1 :])
    return state._replace(workers=workers)


def without_clock(state: State) -> State:
    """Return the state when the clock's key has gone."""
    workers = tuple(a and a._replace(this_life=False) for a in state.workers)
    return state._replace(last=None, workers=workers)


def cleared(state: State) -> State:
    """Return the state when all keys but the stream's have gone."""
    return without_clock(state)._replace(
        queue=(None,) * len(state.queue),
        key_index=(False,) * len(state.key_index),
        key=Key(),
        owner=None,
        delayed=0,
        reconcile=False,
    )


def canonical(state: State) -> State:
    """Return the same state with moments by rank, and equal workers in one order."""
    moments = {attempt.token for attempt in state.workers if attempt}
    moments |= {job.enqueued for job in state.queue if job}
    moments |= {moment for moment in (state.last, state.key.as_of) if moment is not None}
    rank = {moment: 2 * number for number, moment in enumerate(sorted(moments))}
    order = sorted(range(len(state.workers)), key=lambda worker: _sorting(state, worker))
    place = {worker: position for position, worker in enumerate(order)}

    def queue_of(name: int, job: PendingJob | None) -> PendingJob | None:
        if job is None:
            return None
        holder = job.holder
        if holder is not None:
            attempt = state.workers[holder] if holder != NOBODY else None
            holder = place[holder] if attempt and attempt.name == name else NOBODY
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
    return (attempt.token, attempt.name, version, attempt.this_life, attempt.began, holds)
