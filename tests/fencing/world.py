"""A small world on a real Redis: things in a database, a consumer, two daemons' marks, and losses.

The database is a dict that a commit changes; a snapshot of it is a copy. The server's clock is
moved by what it has left in Redis. Everything else is what the daemon runs.
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
from statsd.job import Job, Priority
from statsd.jobs.pending import RECHECK_DELAY, PendingJob, now_and_again
from statsd.jobs.queue import SECOND, Answer, Attempt, Leased, LeaseRequest, Queue
from statsd.stream.event_stream import NEW, PENDING, Entry, Stream
from tests.support.processes import statuses

PLACES = ("a", "b")
LEASE = 30.0  # seconds
RECONCILE = Reconcile().name
CLOCK = keys.CLOCK
BOOKS = (keys.KEY_INDEX, keys.KEY_OWNERS)


class Thing(Job, frozen=True):
    """What is computed: it has a key while it is in the database."""

    kind: ClassVar[str] = "thing"
    number: int


class Row(NamedTuple):
    """A thing in the database."""

    place: str
    """What its key is called. A thing may move to another's place."""
    version: int
    """Which commit, of all, changed it last."""

    @property
    def key(self) -> str:
        return key_of(self.place)


Database = dict[int, Row]


def key_of(place: str) -> str:
    return f"stats:thing:{place}"


def choice_of(most: int) -> LeaseRequest:
    """What a worker takes: reconciling, or up to `most` things."""
    return LeaseRequest({RECONCILE: 1, Thing.kind: most})


@dataclass
class Change:
    """A commit and an event; what has not happened of it yet."""

    places: Mapping[int, str | None]
    """Where the things concerned are afterwards; None: they are deleted."""
    to_commit: bool = True
    to_publish: bool = True


@dataclass
class Work:
    """What a worker has taken and not answered."""

    queue: Queue
    attempt: Attempt
    began: Database
    """The database when the attempt got its token."""
    snapshot: Database | None = None
    held: Sequence[str] = ()


@dataclass
class World:
    """Everything that happens, one call each; between two calls anything else may happen."""

    cache: "redis.Redis"
    client: "redis.asyncio.Redis"
    run: Callable[[Coroutine[Any, Any, Any]], Any]
    """Runs a coroutine on the loop that `client` belongs to."""
    database: Database = field(default_factory=dict)
    change: Change | None = None
    in_hand: list[Entry] = field(default_factory=list)
    work: list[Work] = field(default_factory=list)
    buried: dict[int, Row | None] = field(default_factory=dict)
    """What has a dead letter, and its row when the last attempt began."""
    unclaimed: set[str] = field(default_factory=set)
    """Keys whose owners were forgotten, so that nobody deletes them if they have to go."""
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
        self.begin(dict(enumerate(PLACES, 1)), publish_first=False)
        self.land()
        self.read()
        self.accept()
        for _ in PLACES:  # what the new clock owes, and the things
            if self.take(0, 10):
                self.complete(self.work[-1])

    def enqueue(self, job: Job) -> None:
        """Mark something, as the daemon itself does."""
        self.run(self.daemons[0].enqueue([PendingJob(job)]))

    # --- changes, and events

    def begin(self, places: Mapping[int, str | None], *, publish_first: bool) -> None:
        """Do the first half of a change."""
        self.land()
        self.change = Change(places)
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
            for thing in self.change.places:
                self.database.pop(thing, None)
            for thing, place in self.change.places.items():
                if place is not None:
                    self.database[thing] = Row(place, version)
            self.change.to_commit = False

    def publish(self) -> None:
        if self.change and self.change.to_publish:
            data = orjson.dumps({"things": list(self.change.places)})
            self.cache.xadd(keys.STREAM, {"data": data})
            self.change.to_publish, self.unread = False, True

    def read(self, start: str = NEW) -> None:
        """Read what is new, or, as one that has just started, what is pending."""
        if self.group_lost:
            if self.run(self.stream.ensure_group()):
                self.enqueue(Reconcile())
            self.group_lost = False
        if start == NEW and not self.unread:
            return  # a read of nothing waits
        entries = self.run(self.stream.read(start, 100))
        if start == NEW:
            self.in_hand, self.unread = self.in_hand + entries, False
        else:
            self.in_hand = entries

    def restart_consumer(self) -> None:
        self.read(PENDING)

    def accept(self) -> None:
        """Turn what was read into marks, and acknowledge it."""
        queue: list[PendingJob] = []
        for entry in self.in_hand:
            if entry.deleted:
                queue.append(PendingJob(Reconcile()))
                continue
            for thing in things_of(entry.data):
                # Looked up now: is there a change yet? If not, look again later.
                early = self.change and self.change.to_commit and thing in self.change.places
                queue += now_and_again([Thing(thing)]) if early else [PendingJob(Thing(thing))]
        ids = [entry.id for entry in self.in_hand]
        self.run(self.stream.accept(ids, dict.fromkeys(queue), []))
        self.in_hand = []

    # --- workers

    def take(self, daemon: int, most: int) -> bool:
        """Take what is due, up to `most` things; return whether there was any."""
        self.pass_time(0.001)  # marks that were set together are due a few microseconds apart
        queue = self.daemons[daemon]
        return self._begin_work(queue, self.run(queue.lease(choice_of(most))))

    def _begin_work(self, queue: Queue, leased: Leased | None) -> bool:
        if not leased or not leased.attempt:
            return False
        self.work.append(Work(queue, leased.attempt, dict(self.database)))
        return True

    def open(self, work: Work) -> None:
        work.snapshot = dict(self.database)
        if RECONCILE in work.attempt.names:
            work.held = self.run(work.queue.jobs_with_keys())

    def renew(self, work: Work) -> None:
        """Take a newer token, for another attempt."""
        work.attempt = self.run(work.queue.renew(work.attempt))
        work.began, work.snapshot = dict(self.database), None

    def halve(self, work: Work) -> None:
        """Go on with the halves of a batch by themselves."""
        names = work.attempt.names
        self.work.remove(work)
        for part in (names[: len(names) // 2], names[len(names) // 2 :]):
            if part:
                attempt = self.run(work.queue.renew(replace(work.attempt, names=part)))
                self.work.append(Work(work.queue, attempt, dict(self.database)))

    def complete(self, work: Work) -> list[str]:
        """Answer; what is refused as too late is tried again."""
        found = self.run(work.queue.complete(work.attempt, self._answers(work)))
        return self._end_work(work, statuses(found))

    def complete_and_lease(self, work: Work) -> None:
        """Answer, and take what is due then in the same step."""
        self.pass_time(0.001)
        answers = self._answers(work)
        settling = work.queue.complete_and_lease(work.attempt, answers, choice_of(1))
        found, leased = self.run(settling)
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
            there = {Thing(thing) for thing in work.snapshot}
            there |= {Thing(number_of(held)) for held in work.held}
            return Answer({}, [PendingJob(thing, priority=Priority.BACKGROUND) for thing in there])
        row = work.snapshot.get(number_of(name))
        value = {"thing": number_of(name), "version": row and row.version}
        return Answer({row.key: value} if row else {})

    def bury(self, work: Work) -> None:
        """Fail for the last time."""
        self.fail(work, last=True)

    def die(self, work: Work) -> None:
        """Leave without a word."""
        self.work.remove(work)

    def restart(self, work: Work) -> None:
        """Leave, and give all leases of that daemon back, as it does when it starts."""
        self.work.remove(work)
        self.run(work.queue.release())

    def fail(self, work: Work, *, last: bool = False) -> None:
        """Fail, the last time or not, all that was taken."""
        self.work.remove(work)
        for name in work.attempt.names:
            attempt = replace(work.attempt, names=(name,))
            buries = last and name != RECONCILE
            failing = work.queue.fail(attempt, [] if buries else [5.0], {}, unlimited=not buries)
            attempts, _ = self.run(failing)
            if buries and attempts:
                self.buried[number_of(name)] = work.began.get(number_of(name))

    def replay(self) -> None:
        """Owe what was buried, as an operator does."""
        for thing in self.buried:
            self.enqueue(Thing(thing))
        self.buried = {}

    def sweep(self) -> None:
        cursor = ""
        while cursor != "0":
            cursor, _ = self.run(self.daemons[0].sweep(cursor or "0", 100))

    # --- time

    def pass_time(self, seconds: float) -> None:
        """Let time go on, as leases and delays see it."""
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
        """Set the server's clock back: all that it has told so far is that much ahead of it."""
        shift = seconds * SECOND
        for name in self.names("stats:thing:*:updated"):
            as_of: Any = self.cache.get(name)
            if as_of:
                whole, rest = as_of.decode().split(".")
                self.cache.set(name, f"{int(whole) + seconds}.{rest}")
        for name in (*self.names(f"{keys.INTERNAL}due:*"), keys.DELAYED):
            members: Any = self.cache.zrange(name, 0, -1)
            for member in members:
                self.cache.zincrby(name, shift, member)
        hashes = dict.fromkeys(self.names(f"{keys.JOB}*"), ("enqueued", "retry_at"))
        for name, told in (hashes | {CLOCK: ("last", "seen")}).items():
            for moment in told:
                if self.cache.hexists(name, moment):
                    self.cache.hincrby(name, moment, shift)
        for work in self.work:
            work.attempt = replace(work.attempt, token=work.attempt.token + shift)

    # --- losses

    def flush(self) -> None:
        self.land()  # before anybody notices
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
        """Delete a private key, and do what the daemon does when the server evicts."""
        self.land()
        self.cache.delete(name)
        self.evicted = True
        if name in BOOKS:
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
