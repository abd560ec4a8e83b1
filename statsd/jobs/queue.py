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
from statsd.job import Priority, Refresh, asking, microseconds
from statsd.jobs.pending import Mark, Record
from statsd.jobs.provenance import Cause, id_of

SECOND = 1_000_000  # microseconds
PART = 1_000_000  # characters of values that are written at once, about
OLDEST_TOKEN = 60.0  # seconds; an answer whose token is older is refused


class Event(NamedTuple):
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
    events: Mapping[str, Event] = field(default_factory=dict)
    """By name, the newest event that it is owed for, where there is one."""
    facts: Mapping[str, Sequence[Any]] = field(default_factory=dict)
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
class Choice:
    """What a worker takes: the oldest of a class, and more of its kind.

    It is the most urgent class, unless another has waited for long.
    """

    batches: Mapping[str, int]
    """How many of each kind are taken at once; of others none are."""
    least: Priority = Priority.IDLE
    """What is less urgent is not looked at."""
    lull: float = 0.0
    """Seconds that large values (the class EXPORT) wait beyond their due time."""
    strict: bool = False
    """Whether it is the most urgent class in any case."""
    held: Collection[str] = ()
    """Kinds of which only what a page waits for is taken."""


class Taken(NamedTuple):
    """What `take` found."""

    attempt: Attempt | None
    more: bool
    """Others are due already."""
    wait: float | None
    """Seconds until something is due; None where nothing is owed."""


class Answer(NamedTuple):
    """What is true for one refresh: its keys with their values, and what to put down."""

    values: Mapping[str, Any]
    records: Sequence[Record] = ()
    boards: Mapping[str, Any] | None = None
    """What becomes of a dojo's live boards: see `statsd/lua/settle.lua`."""
    until: datetime | None = None
    """When it changes by itself (naive UTC), and is owed again."""


class Settled(NamedTuple):
    """What became of one answer."""

    status: str
    """`settled`; `again`, for what was marked meanwhile; `late` and `lost`, for answers that were
    refused, because too old or because the lease is another's."""
    waited: float | None = None
    """Seconds since the oldest event it answers was published; None where there was none."""
    unchanged: int = 0
    """How many values were what the cache had, and were not written again."""


class Marks:
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

    async def mark(self, marks: Sequence[Mark]) -> None:
        """Set marks."""
        await self._run("mark", {"marks": [mark.packed() for mark in marks]})

    async def ask(self, refresh: Refresh, interval: float) -> bool:
        """Owe a refresh, once in `interval` seconds for all who ask; return whether it was now."""
        return bool(await self._run("ask", asking(refresh, refresh.priority, interval)))

    async def take(self, choice: Choice) -> Taken:
        """Lease what is due."""
        return _taken(await self._run("take", self._wanted(choice)))

    def _wanted(self, choice: Choice) -> Mapping[str, Any]:
        return {
            "owner": self._owner,
            "lease": self._lease,
            "batches": choice.batches,
            "least": int(choice.least),
            "lull": int(choice.lull * SECOND),
            "strict": choice.strict,
            "held": dict.fromkeys(choice.held, True),
        }

    async def renew(self, attempt: Attempt) -> Attempt:
        """Prolong the lease; return the attempt with a newer token, for another try.

        It has no facts: those were of the older one.
        """
        request = {"lease": attempt.lease, "names": attempt.names, "duration": self._lease}
        token, moment, epoch = await self._run("renew", request)
        return replace(
            attempt, token=int(token), moment=int(moment), epoch=epoch.decode(), facts={}
        )

    async def settle(
        self,
        attempt: Attempt,
        answers: Mapping[str, Answer],
        *,
        took: float = 0.0,
        rest: float | None = None,
    ) -> list[Settled]:
        """Write the answers and remove the marks they answer; return what became of each.

        In seconds: what each of them took, and how long it has to rest, where it has to.
        """
        settled, _ = await self._settle(attempt, answers, None, took, rest)
        return settled

    async def settle_and_take(
        self,
        attempt: Attempt,
        answers: Mapping[str, Answer],
        choice: Choice,
        *,
        took: float = 0.0,
        rest: float | None = None,
    ) -> tuple[list[Settled], Taken | None]:
        """Do the same, and lease what is due then in the same step; None: one was late."""
        return await self._settle(attempt, answers, choice, took, rest)

    async def _settle(
        self,
        attempt: Attempt,
        answers: Mapping[str, Answer],
        choice: Choice | None,
        took: float,
        rest: float | None,
    ) -> tuple[list[Settled], Taken | None]:
        request = {
            "token": str(attempt.token),
            "epoch": attempt.epoch,
            "lease": attempt.lease,
            "oldest": int(OLDEST_TOKEN * SECOND),
        }
        times = (int(took * SECOND), None if rest is None else int(rest * SECOND))
        packed = ((*_packed(*each), *times, _until(each[1])) for each in answers.items())
        settled: list[Settled] = []
        taken: list[Any] = []
        for part in _in_parts(packed):
            is_last = len(settled) + len(part) == len(answers)
            following = {"next": self._wanted(choice)} if choice and is_last else {}
            reply, taken = await self._run("settle", request | {"answers": part} | following)
            settled.extend(map(_settled, reply[::3], reply[1::3], reply[2::3]))
        return settled, _taken(taken) if taken else None

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

    async def owed(self, priority: Priority) -> int:
        """Return how many refreshes of a class are owed."""
        return int(await self._redis.zcard(keys.due(priority)))

    async def held(self) -> list[str]:
        """Return the names of all refreshes that have keys in the cache."""
        names: list[bytes] = await self._redis.hkeys(keys.HOLDINGS)  # type: ignore[assignment]
        return [name.decode() for name in names]


def timestamp() -> str:
    """Return the present time as dead letters and logs have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def packed(
    records: Iterable[tuple[Record, Cause | None]],
) -> tuple[list[tuple[str | int, ...]], list[int]]:
    """Return what the scripts take: the marks, and the ids of the solves they answer for."""
    marks, covered = [], []
    for record, cause in records:
        if isinstance(record, Mark):
            marks.append(record.packed(cause))
        else:
            covered.append(record.submission_id)
    return marks, covered


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


def _taken(reply: Sequence[Any]) -> Taken:
    token, moment, epoch, lease, wait, more, queued, taken, events, known = reply
    attempt = None
    if taken:
        names = tuple(name.decode() for name in taken)
        for_events = zip(*[(text.decode() for text in events)] * 3, strict=True)
        attempt = Attempt(
            names,
            int(token),
            int(moment),
            epoch.decode(),
            lease.decode(),
            int(queued) / SECOND,
            {name: Event(*event) for name, *event in for_events},
            dict(zip(names, known, strict=False)),  # of other kinds there are none
        )
    return Taken(attempt, bool(more), None if int(wait) < 0 else int(wait) / SECOND)


def _settled(status: bytes, waited: int, unchanged: int) -> Settled:
    return Settled(status.decode(), None if waited < 0 else waited / 1000, unchanged)


def _until(answer: Answer) -> int | None:
    return None if answer.until is None else microseconds(answer.until)


def _packed(name: str, answer: Answer) -> tuple[Any, ...]:
    holdings = msgspec.json.encode(sorted(answer.values)).decode()
    # As text: Redis knows no binaries of MessagePack.
    values = [(key, orjson.dumps(value).decode()) for key, value in answer.values.items()]
    records = ((record, None) for record in answer.records)
    return name, holdings, values, *packed(records), answer.boards
