"""A small world on a real Redis: a database of things, a consumer, two daemons, and losses.

The database is a dict that a commit changes; a snapshot is a copy of it. To move the server's
clock, the world changes the stored moments in Redis. All other code is that of the daemon.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, ClassVar, NamedTuple

import orjson
import redis
import redis.asyncio

from statsd import keys
from statsd.consistency.reconcile import Reconcile
from statsd.job import SECOND, Job, Priority
from statsd.jobs.attempt import Answer, Attempt
from statsd.jobs.pending import RECHECK_DELAY, PendingJob, now_and_again
from statsd.jobs.queue import LeaseRequest, Queue
from statsd.jobs.replies import Leased
from statsd.stream.event_stream import NEW, PENDING, Entry, Stream
from tests.support.processes import statuses

SLOTS = ("a", "b")
LEASE = 30.0  # seconds
RECONCILE = Reconcile().name
CLOCK = keys.CLOCK
KEY_INDEXES = (keys.KEY_INDEX, keys.KEY_OWNERS)


class Thing(Job, frozen=True):
    """A job for a thing, which has a key while it is in the database."""

    kind: ClassVar[str] = "thing"
    number: int


class Row(NamedTuple):
    """A thing in the database."""

    slot: str
    """The name of its key. A thing may move to the slot of another."""
    version: int
    """The number of the commit that changed it last."""

    @property
    def key(self) -> str:
        return key_of(self.slot)


Database = dict[int, Row]


def key_of(slot: str) -> str:
    return f"stats:thing:{slot}"


def request_for(most: int) -> LeaseRequest:
    """Return the request of a worker: a reconcile, or up to `most` things."""
    return LeaseRequest({RECONCILE: 1, Thing.kind: most})


@dataclass
class Change:
    """A commit and an event, one or both of which are still to come."""

    slots: Mapping[int, str | None]
    """The new slots of the changed things; None: the thing is deleted."""
    to_commit: bool = True
    to_publish: bool = True


@dataclass
class Work:
    """Jobs that a worker has leased and not answered."""

    queue: Queue
    attempt: Attempt
    began: Database
    """The database when the attempt got its token."""
    snapshot: Database | None = None
    with_keys: Sequence[str] = ()
    """For a reconcile, the jobs with keys."""


@dataclass
class World:
    """All steps of the world, one method each; they may come in any order."""

    cache: "redis.Redis"
    client: "redis.asyncio.Redis"
    run: Callable[[Coroutine[Any, Any, Any]], Any]
    """Runs a coroutine on the loop that `client` belongs to."""
    database: Database = field(default_factory=dict)
    change: Change | None = None
    in_hand: list[Entry] = field(default_factory=list)
    work: list[Work] = field(default_factory=list)
    buried: dict[int, Row | None] = field(default_factory=dict)
    """Things with a dead letter, and their rows when the last attempt began."""
    unclaimed: set[str] = field(default_factory=set)
    """Keys whose key owner was evicted, so that no job deletes them."""
    group_lost: bool = False
    unread: bool = False
    evicted: bool = False

    def __post_init__(self) -> None:
        self.cache.flushall()
        self._versions = count(1)
        self.daemons = [
            Queue(self.client, owner, lease=LEASE, dead_limit=1000) for owner in ("one", "two")
        ]
        self.stream = Stream(self.client, self.client, "one", block=0.001, dead_limit=1000)
        self.run(self.stream.ensure_group())
        self.enqueue(Reconcile())
        self.begin(dict(enumerate(SLOTS, 1)), publish_first=False)
        self.land()
        self.read()
        self.accept()
        for _ in SLOTS:  # the reconcile of the new clock, and the things
            if self.lease(0, 10):
                self.complete(self.work[-1])

    def enqueue(self, job: Job) -> None:
        """Enqueue a job, as the daemon does."""
        self.run(self.daemons[0].enqueue([PendingJob(job)]))

    # --- changes, and events

    def begin(self, slots: Mapping[int, str | None], *, publish_first: bool) -> None:
        """Do the first half of a change."""
        self.land()
        self.change = Change(slots)
        if publish_first:
            self.publish()
        else:
            self.commit()

    def land(self) -> None:
        """Do the other half of a change that is under way."""
        if self.change:
            self.commit()
            self.publish()
            self.change = None

    def commit(self) -> None:
        if self.change and self.change.to_commit:
            version = next(self._versions)
            for thing in self.change.slots:
                self.database.pop(thing, None)
            for thing, slot in self.change.slots.items():
                if slot is not None:
                    self.database[thing] = Row(slot, version)
            self.change.to_commit = False

    def publish(self) -> None:
        if self.change and self.change.to_publish:
            data = orjson.dumps({"things": list(self.change.slots)})
            self.cache.xadd(keys.STREAM, {"data": data})
            self.change.to_publish, self.unread = False, True

    def read(self, start: str = NEW) -> None:
        """Read new entries, or the pending ones, as a consumer does at its start."""
        if self.group_lost:
            if self.run(self.stream.ensure_group()):
                self.enqueue(Reconcile())
            self.group_lost = False
        if start == NEW and not self.unread:
            return  # a read without entries would block
        entries = self.run(self.stream.read(start, 100))
        if start == NEW:
            self.in_hand, self.unread = self.in_hand + entries, False
        else:
            self.in_hand = entries

    def restart_consumer(self) -> None:
        self.read(PENDING)

    def accept(self) -> None:
        """Enqueue jobs for the entries that were read, and acknowledge these."""
        queue: list[PendingJob] = []
        for entry in self.in_hand:
            if entry.deleted:
                queue.append(PendingJob(Reconcile()))
                continue
            for thing in things_of(entry.data):
                # If the change is not committed yet, the job is enqueued again later.
                early = self.change and self.change.to_commit and thing in self.change.slots
                queue += now_and_again([Thing(thing)]) if early else [PendingJob(Thing(thing))]
        ids = [entry.id for entry in self.in_hand]
        self.run(self.stream.accept(ids, dict.fromkeys(queue), []))
        self.in_hand = []

    # --- workers

    def lease(self, daemon: int, most: int) -> bool:
        """Lease due jobs, up to `most` things; return whether there was any."""
        self.pass_time(0.001)  # jobs that were enqueued together are due some microseconds apart
        queue = self.daemons[daemon]
        return self._begin_work(queue, self.run(queue.lease(request_for(most))))

    def _begin_work(self, queue: Queue, leased: Leased | None) -> bool:
        if not leased or not leased.attempt:
            return False
        self.work.append(Work(queue, leased.attempt, dict(self.database)))
        return True

    def open(self, work: Work) -> None:
        work.snapshot = dict(self.database)
        if RECONCILE in work.attempt.names:
            work.with_keys = self.run(work.queue.jobs_with_keys())

    def renew(self, work: Work) -> None:
        """Get a newer token for another attempt."""
        work.attempt = self.run(work.queue.renew(work.attempt))
        work.began, work.snapshot = dict(self.database), None

    def halve(self, work: Work) -> None:
        """Continue with each half of a batch separately."""
        names = work.attempt.names
        self.work.remove(work)
        for part in (names[: len(names) // 2], names[len(names) // 2 :]):
            if part:
                attempt = self.run(work.queue.renew(replace(work.attempt, names=part)))
                self.work.append(Work(work.queue, attempt, dict(self.database)))

    def complete(self, work: Work) -> list[str]:
        """Answer; a stale answer is tried again."""
        found = self.run(work.queue.complete(work.attempt, self._answers(work)))
        return self._end_work(work, statuses(found))

    def complete_and_lease(self, work: Work) -> None:
        """Answer, and lease the due jobs in the same step."""
        self.pass_time(0.001)
        answers = self._answers(work)
        completing = work.queue.complete_and_lease(work.attempt, answers, request_for(1))
        found, leased = self.run(completing)
        self._begin_work(work.queue, leased)
        self._end_work(work, statuses(found))

    def _answers(self, work: Work) -> dict[str, Answer]:
        if work.snapshot is None:
            self.open(work)
        return {name: self._answer(work, name) for name in work.attempt.names}

    def _end_work(self, work: Work, found: list[str]) -> list[str]:
        if "stale" in found:
            self.renew(work)
        else:
            self.work.remove(work)
        return found

    def _answer(self, work: Work, name: str) -> Answer:
        assert work.snapshot is not None
        if name == RECONCILE:
            wanted = {Thing(thing) for thing in work.snapshot}
            wanted |= {Thing(number_of(name)) for name in work.with_keys}
            return Answer({}, [PendingJob(thing, priority=Priority.BACKGROUND) for thing in wanted])
        row = work.snapshot.get(number_of(name))
        value = {"thing": number_of(name), "version": row and row.version}
        return Answer({row.key: value} if row else {})

    def bury(self, work: Work) -> None:
        """Fail for the last time."""
        self.fail(work, last=True)

    def die(self, work: Work) -> None:
        """Crash: the leases stay."""
        self.work.remove(work)

    def restart(self, work: Work) -> None:
        """Crash and restart the daemon, which releases all its leases."""
        self.work.remove(work)
        self.run(work.queue.release())

    def fail(self, work: Work, *, last: bool = False) -> None:
        """Fail all leased jobs, for the last time or not."""
        self.work.remove(work)
        for name in work.attempt.names:
            attempt = replace(work.attempt, names=(name,))
            is_last = last and name != RECONCILE
            failing = work.queue.fail(attempt, [] if is_last else [5.0], {}, unlimited=not is_last)
            attempts, _ = self.run(failing)
            if is_last and attempts:
                self.buried[number_of(name)] = work.began.get(number_of(name))

    def replay(self) -> None:
        """Enqueue the buried jobs, as an operator does."""
        for thing in self.buried:
            self.enqueue(Thing(thing))
        self.buried = {}

    def sweep(self) -> None:
        cursor = ""
        while cursor != "0":
            cursor, _ = self.run(self.daemons[0].sweep(cursor or "0", 100))

    # --- time

    def pass_time(self, seconds: float) -> None:
        """Let time pass, as measured for leases and delays."""
        if seconds >= RECHECK_DELAY:
            self.land()  # an event is published only a moment before its commit
        if self.cache.exists(CLOCK):
            self.cache.hincrby(CLOCK, "offset", int(seconds * SECOND))

    def set_ahead(self, seconds: int) -> None:
        """Set the server's clock ahead."""
        self.land()
        if self.cache.exists(CLOCK):
            self.cache.hincrby(CLOCK, "last", seconds * SECOND)
            self.cache.hincrby(CLOCK, "offset", seconds * SECOND)

    def set_back(self, seconds: int) -> None:
        """Set the server's clock back, by moving all stored moments ahead by as much."""
        shift = seconds * SECOND
        for name in self.names("stats:thing:*:updated"):
            as_of: Any = self.cache.get(name)
            if as_of:
                whole, fraction = as_of.decode().split(".")
                self.cache.set(name, f"{int(whole) + seconds}.{fraction}")
        for name in (*self.names(f"{keys.INTERNAL}due:*"), keys.DELAYED):
            members: Any = self.cache.zrange(name, 0, -1)
            for member in members:
                self.cache.zincrby(name, shift, member)
        hashes = dict.fromkeys(self.names(f"{keys.JOB}*"), ("enqueued", "retry_at"))
        for name, fields in (hashes | {CLOCK: ("last", "seen")}).items():
            for moment in fields:
                if self.cache.hexists(name, moment):
                    self.cache.hincrby(name, moment, shift)
        for work in self.work:
            work.attempt = replace(work.attempt, token=work.attempt.token + shift)

    # --- losses

    def flush(self) -> None:
        self.land()  # before the loss is noticed
        self.cache.flushall()
        self.group_lost, self.unread = True, False

    def delete_stats(self) -> None:
        self.land()
        self.cache.delete(*self.names("stats:*"))

    def delete_stream(self) -> None:
        self.land()
        self.cache.delete(keys.STREAM)
        self.group_lost, self.unread = True, False

    def evict(self, name: str) -> None:
        """Delete a private key, and reconcile, as the daemon does after an eviction."""
        self.land()
        self.cache.delete(name)
        self.evicted = True
        if name in KEY_INDEXES:
            self.unclaimed |= set(self.names("stats:thing:*"))
        self.enqueue(Reconcile())

    def names(self, pattern: str) -> list[str]:
        found: Any = self.cache.keys(pattern)
        return sorted(name.decode() for name in found) or ["none"]


def things_of(data: bytes | None) -> list[int]:
    things: list[int] = orjson.loads(data or b"{}")["things"]
    return things


def number_of(name: str) -> int:
    return int(name.split(":")[1])
