"""Marks: what is owed, in Redis, shared by all daemons.

A mark is set (in the step that acknowledges its event), leased by a worker together with a
token, and goes when an answer with a newer token than the mark was written. See
`statsd/lua/common.lua` for how it lies in Redis.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import orjson
from redis.asyncio import Redis

from statsd import keys, scripts
from statsd.job import Job, Priority, enqueue_once_request, microseconds
from statsd.jobs.pending import Consequence, PendingJob
from statsd.jobs.provenance import Provenance, id_of

SECOND = 1_000_000  # microseconds
PART = 1_000_000  # characters of values that are written at once, about
OLDEST_TOKEN = 60.0  # seconds; an answer whose token is older is refused


class EventRef(NamedTuple):
    """An event as log lines name it."""

    entry: str
    event_type: str


@dataclass(frozen=True)
class Attempt:
    """Leased names and the token of one try at answering them."""

    names: tuple[str, ...]
    token: int
    """Microseconds of the server's clock: what the answer is true for."""
    moment: int
    """Microseconds of scheduling time, which no step of that clock moves: for measuring waits."""
    epoch: str
    """Which life of the clock the token is from."""
    lease: str
    queued: float = 0.0
    """Seconds for which the oldest had been due."""
    events: Mapping[str, EventRef] = field(default_factory=dict)
    """By name, the newest event that it is owed for, where there is one."""
    prefetched: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """By name of dojos' statistics, what live boards said at the token: see `facts.lua`."""

    @property
    def kind(self) -> str:
        """The kind that all names are of."""
        return self.names[0].partition(":")[0]

    @property
    def newest_event(self) -> dict[str, str]:
        """The newest of them, as fields of a log line; empty where there is none."""
        events = (self.events[name] for name in self.names if name in self.events)
        newest = max(events, key=lambda event: id_of(event.entry), default=None)
        return newest._asdict() if newest else {}

    @property
    def now(self) -> datetime:
        """The token as a moment, naive UTC: the `now` of the statements."""
        return datetime.fromtimestamp(self.token / SECOND, UTC).replace(tzinfo=None)


@dataclass(frozen=True)
class LeaseRequest:
    """What a worker takes: the oldest of a class, and more of its kind.

    It is the most urgent class, unless another has waited for long.
    """

    batches: Mapping[str, int]
    """How many of each kind are taken at once; of others none are."""
    least: Priority = Priority.IDLE
    """What is less urgent is not looked at."""
    debounce: float = 0.0
    """Seconds that large values (the class EXPORT) wait beyond their due time."""
    strict: bool = False
    """Whether it is the most urgent class in any case."""
    shed: Collection[str] = ()
    """Kinds of which only what a page waits for is taken."""


class Leased(NamedTuple):
    """What `take` found."""

    attempt: Attempt | None
    more: bool
    """Others are due already."""
    wait: float | None
    """Seconds until something is due; None where nothing is owed."""


class Answer(NamedTuple):
    """What is true for one refresh: its keys with their values, and what to put down."""

    values: Mapping[str, Any]
    consequences: Sequence[Consequence] = ()
    boards: Mapping[str, Any] | None = None
    """What becomes of a dojo's live boards: see `statsd/lua/settle.lua`."""
    until: datetime | None = None
    """When it changes by itself (naive UTC), and is owed again."""


class Completion(NamedTuple):
    """What became of one answer."""

    status: str
    """`completed`; `again`, for what was marked meanwhile; `late` and `lost`, for answers that were
    refused, because too old or because the lease is another's."""
    waited: float | None = None
    """Seconds since the oldest event it answers was published; None where there was none."""
    unchanged: int = 0
    """How many values were what the cache had, and were not written again."""


class Queue:
    """The marks, seen by one daemon, the `owner` of the leases it takes."""

    def __init__(self, redis: Redis, owner: str, *, lease: float, dead_limit: int) -> None:
        self._redis = redis
        self._owner = owner
        self._lease = int(lease * SECOND)
        self._dead_limit = dead_limit
        self._scripts = {
            name: redis.register_script(scripts.source(name))
            for name in ("take", "renew", "settle", "fail", "release", "mark", "ask", "sweep")
        }

    async def _run(self, script: str, request: Mapping[str, Any], *key_names: str) -> Any:
        return await self._scripts[script](key_names, [scripts.encode(request)])

    async def enqueue(self, jobs: Sequence[PendingJob]) -> None:
        """Set marks."""
        await self._run("mark", {"marks": [job.packed() for job in jobs]})

    async def enqueue_once(self, job: Job, interval: float) -> bool:
        """Owe a refresh, once in `interval` seconds for all who ask; return whether it was now."""
        return bool(await self._run("ask", enqueue_once_request(job, job.priority, interval)))

    async def lease(self, choice: LeaseRequest) -> Leased:
        """Lease what is due."""
        return _leased_from(await self._run("take", self._wanted(choice)))

    def _wanted(self, choice: LeaseRequest) -> Mapping[str, Any]:
        return {
            "owner": self._owner,
            "lease": self._lease,
            "batches": choice.batches,
            "least": int(choice.least),
            "lull": int(choice.debounce * SECOND),
            "strict": choice.strict,
            "held": dict.fromkeys(choice.shed, True),
        }

    async def renew(self, attempt: Attempt) -> Attempt:
        """Prolong the lease; return the attempt with a newer token, for another try.

        It has no facts: those were of the older one.
        """
        request = {"lease": attempt.lease, "names": attempt.names, "duration": self._lease}
        token, moment, epoch = await self._run("renew", request)
        return replace(
            attempt, token=int(token), moment=int(moment), epoch=epoch.decode(), prefetched={}
        )

    async def complete(
        self,
        attempt: Attempt,
        answers: Mapping[str, Answer],
        *,
        took: float = 0.0,
        cooldown: float | None = None,
    ) -> list[Completion]:
        """Write the answers and remove the marks they answer; return what became of each.

        In seconds: what each of them took, and how long it has to rest, where it has to.
        """
        completed, _ = await self._complete(attempt, answers, None, took, cooldown)
        return completed

    async def complete_and_lease(
        self,
        attempt: Attempt,
        answers: Mapping[str, Answer],
        choice: LeaseRequest,
        *,
        took: float = 0.0,
        cooldown: float | None = None,
    ) -> tuple[list[Completion], Leased | None]:
        """Do the same, and lease what is due then in the same step; None: one was late."""
        return await self._complete(attempt, answers, choice, took, cooldown)

    async def _complete(
        self,
        attempt: Attempt,
        answers: Mapping[str, Answer],
        choice: LeaseRequest | None,
        took: float,
        cooldown: float | None,
    ) -> tuple[list[Completion], Leased | None]:
        request = {
            "token": str(attempt.token),
            "epoch": attempt.epoch,
            "lease": attempt.lease,
            "oldest": int(OLDEST_TOKEN * SECOND),
        }
        times = (int(took * SECOND), None if cooldown is None else int(cooldown * SECOND))
        packed = ((*_packed(*each), *times, _until(each[1])) for each in answers.items())
        completed: list[Completion] = []
        leased: list[Any] = []
        for part in _in_parts(packed):
            is_last = len(completed) + len(part) == len(answers)
            following = {"next": self._wanted(choice)} if choice and is_last else {}
            reply, leased = await self._run("settle", request | {"answers": part} | following)
            completed.extend(map(_completion, reply[::3], reply[1::3], reply[2::3]))
        return completed, _leased_from(leased) if leased else None

    async def fail(
        self,
        attempt: Attempt,
        delays: Sequence[float],
        reason: Mapping[str, str],
        *,
        patient: bool = False,
    ) -> tuple[int, float | None]:
        """Put one failed refresh off, or, when its `delays` are used up, bury it.

        With `patient` the last delay is used again instead.
        Return how many attempts it had (0: the lease is another's) and the delay in seconds
        (None: buried).
        """
        [name] = attempt.names
        fields = {"name": name, "consumer": self._owner, "failed_at": timestamp(), **reason}
        attempts, delay = await self._run(
            "fail",
            {
                "token": str(attempt.token),
                "lease": attempt.lease,
                "name": name,
                "delays": [int(delay * SECOND) for delay in delays],
                "patient": patient,
                "error": reason.get("error", ""),
                "dead": [part for field in fields.items() for part in field],
                "dead_limit": self._dead_limit,
            },
            keys.DEAD_LETTERS,
        )
        return int(attempts), None if int(delay) < 0 else int(delay) / SECOND

    async def release(self, names: Sequence[str] | None = None) -> int:
        """Give leases of this owner back, all of them or those on `names`; return how many."""
        request = {"owner": self._owner} | ({} if names is None else {"names": names})
        return int(await self._run("release", request))

    async def sweep(self, cursor: str, count: int) -> tuple[str, int]:
        """Mark what lost a key, among about `count` refreshes from a cursor on ("0": the first).

        Return the next cursor ("0": that was all) and how many were marked.
        """
        following, missing = await self._run("sweep", {"cursor": cursor, "count": count})
        return following.decode(), int(missing)

    async def pending(self, priority: Priority) -> int:
        """Return how many refreshes of a class are owed."""
        return int(await self._redis.zcard(keys.due(priority)))

    async def jobs_with_keys(self) -> list[str]:
        """Return the names of all refreshes that have keys in the cache."""
        names: list[bytes] = await self._redis.hkeys(keys.KEY_INDEX)  # type: ignore[assignment]
        return [name.decode() for name in names]


def timestamp() -> str:
    """Return the present time as dead letters and logs have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def packed(
    consequences: Iterable[tuple[Consequence, Provenance | None]],
) -> tuple[list[tuple[str | int, ...]], list[int]]:
    """Return what the scripts take: the marks, and the ids of the solves they answer for."""
    jobs, acknowledged = [], []
    for consequence, provenance in consequences:
        if isinstance(consequence, PendingJob):
            jobs.append(consequence.packed(provenance))
        else:
            acknowledged.append(consequence.submission_id)
    return jobs, acknowledged


def _in_parts(answers: Iterable[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """Yield answers in parts: Redis does nothing else while a script writes one."""
    part, size = [], 0
    for answer in answers:
        part.append(answer)
        size += sum(len(value) for _, value in answer[2])
        if size >= PART:
            yield part
            part, size = [], 0
    if part:
        yield part


def _leased_from(reply: Sequence[Any]) -> Leased:
    token, moment, epoch, lease, wait, more, queued, leased, events, known = reply
    attempt = None
    if leased:
        names = tuple(name.decode() for name in leased)
        for_events = zip(*[(text.decode() for text in events)] * 3, strict=True)
        attempt = Attempt(
            names,
            int(token),
            int(moment),
            epoch.decode(),
            lease.decode(),
            int(queued) / SECOND,
            {name: EventRef(*event) for name, *event in for_events},
            dict(zip(names, known, strict=False)),  # of other kinds there are none
        )
    return Leased(attempt, bool(more), None if int(wait) < 0 else int(wait) / SECOND)


def _completion(status: bytes, waited: int, unchanged: int) -> Completion:
    return Completion(status.decode(), None if waited < 0 else waited / 1000, unchanged)


def _until(answer: Answer) -> int | None:
    return None if answer.until is None else microseconds(answer.until)


def _packed(name: str, answer: Answer) -> tuple[Any, ...]:
    key_index = msgspec.json.encode(sorted(answer.values)).decode()
    # As text: Redis knows no binaries of MessagePack.
    values = [(key, orjson.dumps(value).decode()) for key, value in answer.values.items()]
    consequences = ((consequence, None) for consequence in answer.consequences)
    return name, key_index, values, *packed(consequences), answer.boards
