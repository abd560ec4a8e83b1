"""The replies of the queue's scripts, each described on top of its script."""

from typing import NamedTuple

import msgspec

from statsd.job import SECOND
from statsd.jobs.attempt import Attempt, Completion, EventRef, PrefetchedTotals


class Leased(NamedTuple):
    """The result of a lease request."""

    attempt: Attempt | None
    more: bool
    """Whether other jobs are due already."""
    wait: float | None
    """Seconds until another job is due; None where none is pending."""


class _Event(msgspec.Struct):
    name: str
    entry: str
    type: str


class LeaseReply(msgspec.Struct):
    """The jobs that the script `jobs/lease` leased."""

    token: int
    moment: int
    epoch: str
    lease: str
    names: list[str]
    events: list[_Event]
    queued: int
    more: bool
    wait: float | None = None
    changed: dict[str, str] = {}
    prefetched: list[msgspec.Raw] = []

    def leased(self) -> Leased:
        """Return the same with durations in seconds."""
        changed = {
            name: tuple(map(int, filter(None, ids.split(","))))
            for name, ids in self.changed.items()
        }
        prefetched = {
            name: found
            for name, raw in zip(self.names, self.prefetched, strict=False)
            if (found := _prefetched(raw)) is not None
        }
        attempt = Attempt(
            tuple(self.names),
            self.token,
            self.moment,
            self.epoch,
            self.lease,
            self.queued / SECOND,
            {event.name: EventRef(event.entry, event.type) for event in self.events},
            {name: each for name, each in prefetched.items() if isinstance(each, PrefetchedTotals)},
            changed,
            {
                name: (*each, *changed[name])
                for name, each in prefetched.items()
                if isinstance(each, list)
            },
        )
        wait = None if self.wait is None else self.wait / SECOND
        return Leased(attempt if self.names else None, self.more, wait)


def _prefetched(raw: msgspec.Raw) -> PrefetchedTotals | list[int] | None:
    """Return the totals of a dojo, or challenges of a user; None where there are none.

    Garbled data is no reason to lose the lease: the database is read instead.
    """
    try:
        return msgspec.msgpack.decode(raw, type=PrefetchedTotals | list[int] | None)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


class _Outcome(msgspec.Struct):
    status: str
    unchanged: int
    waited: int | None = None

    def completion(self) -> Completion:
        waited = None if self.waited is None else self.waited / 1000
        return Completion(self.status, waited, self.unchanged)


class CompleteReply(msgspec.Struct):
    """What became of the answers given to the script `jobs/complete`, and the jobs it leased."""

    outcomes: list[_Outcome]
    leased: LeaseReply | None = None


class RenewReply(msgspec.Struct):
    """The newer token from the script `jobs/renew`."""

    token: int
    moment: int
    epoch: str


class FailReply(msgspec.Struct):
    """The attempts of a failed job; `delay`, in microseconds, is None where it was buried."""

    attempts: int
    delay: float | None = None


class SweepReply(msgspec.Struct):
    """The next cursor of the script `consistency/sweep`, and how many jobs it enqueued."""

    cursor: str
    missing: int
