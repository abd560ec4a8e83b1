"""The job queue in Redis, shared by all daemons.

A job for an event is enqueued in the step that acknowledges the event. A worker leases the job
together with a token, and completes it: its values are written, and the job leaves the queue,
unless it was enqueued again after the token. `statsd/jobs/lua/queue.lua` describes the keys in
Redis.
"""

import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import msgspec
import orjson
from redis.asyncio import Redis

from statsd import keys, scripts
from statsd.job import SECOND, Job, Priority, enqueue_once_request, microseconds
from statsd.jobs.attempt import Answer, Attempt, Completion
from statsd.jobs.pending import STEP, Consequence, PendingJob, in_steps
from statsd.jobs.provenance import Provenance
from statsd.jobs.replies import CompleteReply, FailReply, Leased, LeaseReply, RenewReply, SweepReply
from statsd.servers.errors import is_outage

PART = 1_000_000  # bytes of values that are written at once, approximately
MOST_ANSWERS = 40  # completed at once
MOST_LEASES = 250  # made, renewed or released at once
PARTIAL = "partial"  # the outcome of a piece of an answer that more pieces follow
LARGE = 32_768  # bytes of a value that is written before the script
UPLOAD_TTL = 60  # seconds
OLDEST_TOKEN = 60.0  # seconds; an answer whose token is older is refused

R = TypeVar("R")


@dataclass(frozen=True)
class LeaseRequest:
    """Which jobs a worker leases: the oldest job of a class, and more jobs of its kind.

    The class is the most urgent one, unless priority aging puts another one first.
    """

    batches: Mapping[str, int]
    """How many jobs of each kind are leased at once; jobs of other kinds are not leased."""
    least: Priority = Priority.IDLE
    """The least urgent class that is considered."""
    debounce: float = 0.0
    """Seconds that jobs of class EXPORT wait beyond their due time."""
    strict: bool = False
    """Whether the most urgent class comes first, without priority aging."""
    shed: Collection[str] = ()
    """Kinds of which only class MISSED is leased."""


class Queue:
    """The queue, as used by one daemon, which owns its leases."""

    def __init__(self, redis: Redis, owner: str, *, lease: float, dead_limit: int) -> None:
        """`lease` is in seconds; `dead_limit` is how many dead letters are kept."""
        self._redis = redis
        self._owner = owner
        self._lease = int(lease * SECOND)
        self._dead_limit = dead_limit
        self._scripts = {
            name: redis.register_script(scripts.source(name))
            for name in (
                "jobs/complete",
                "jobs/enqueue",
                "jobs/enqueue_once",
                "jobs/fail",
                "jobs/lease",
                "jobs/release",
                "jobs/renew",
                "consistency/doubt",
                "consistency/sweep",
            )
        }

    async def _run(self, script: str, *key_names: str, **request: Any) -> Any:
        return await self._scripts[script](key_names, [scripts.encode(request)])

    async def _reply(self, kind: type[R], script: str, *key_names: str, **request: Any) -> R:
        reply: bytes = await self._run(script, *key_names, **request)
        return msgspec.msgpack.decode(reply, type=kind)

    async def enqueue(self, jobs: Sequence[PendingJob]) -> None:
        """Enqueue jobs, in steps."""
        for step, _ in in_steps(jobs):
            await self._run("jobs/enqueue", jobs=[job.packed() for job in step])

    async def enqueue_once(self, job: Job, interval: float) -> bool:
        """Enqueue a job at most once in `interval` seconds, for all daemons.

        Return whether it was enqueued now.
        """
        request = enqueue_once_request(job, job.priority, interval)
        return bool(await self._run("jobs/enqueue_once", **request))

    async def lease(self, wanted: LeaseRequest) -> Leased:
        """Lease due jobs."""
        reply = await self._reply(LeaseReply, "jobs/lease", **self._packed(wanted))
        return await self._filled(reply.leased(), wanted)

    async def _filled(self, leased: Leased, wanted: LeaseRequest) -> Leased:
        """Lease more jobs of the kind, up to a batch, in further steps.

        The attempt keeps the token of the first step, since what had changed for the jobs was read
        then. A job that was enqueued later is answered twice.
        """
        attempt = leased.attempt
        while attempt and len(attempt.names) % MOST_LEASES == 0:
            left = wanted.batches[attempt.kind] - len(attempt.names)
            if left <= 0:
                break
            request = self._packed(replace(wanted, batches={attempt.kind: left}))
            try:
                reply = await self._reply(LeaseReply, "jobs/lease", **request, lease=attempt.lease)
            except Exception as error:
                if not is_outage(error):
                    raise
                break  # the worker has to know of the jobs that the steps before have leased
            further = reply.leased().attempt
            if not further:
                break
            attempt = attempt.joined(further)
        return leased._replace(attempt=attempt)

    def _packed(self, wanted: LeaseRequest) -> dict[str, Any]:
        return {
            "owner": self._owner,
            "duration": self._lease,
            "batches": {kind: min(batch, MOST_LEASES) for kind, batch in wanted.batches.items()},
            "least": int(wanted.least),
            "debounce": int(wanted.debounce * SECOND),
            "strict": wanted.strict,
            "shed": dict.fromkeys(wanted.shed, True),
        }

    async def renew(self, attempt: Attempt) -> Attempt:
        """Renew the lease; return the attempt with a newer token, for another try.

        What was prefetched, and what has changed, are dropped: they belong to the older token.
        """
        for names, _ in in_steps(attempt.names, MOST_LEASES):
            renewed = await self._reply(
                RenewReply, "jobs/renew", lease=attempt.lease, names=names, duration=self._lease
            )
        return replace(
            attempt,
            token=renewed.token,
            moment=renewed.moment,
            epoch=renewed.epoch,
            prefetched={},
            changed={},
            known={},
        )

    async def complete(
        self,
        attempt: Attempt,
        answers: Mapping[str, Answer],
        *,
        took: float = 0.0,
        cooldown: float | None = None,
    ) -> list[Completion]:
        """Write answers, by job name, and remove their jobs; return the outcome of each.

        `took` and `cooldown` are seconds, for each of the jobs; None: no cooldown.
        """
        completed, _ = await self._complete(attempt, answers, None, took, cooldown)
        return completed

    async def complete_and_lease(
        self,
        attempt: Attempt,
        answers: Mapping[str, Answer],
        wanted: LeaseRequest,
        *,
        took: float = 0.0,
        cooldown: float | None = None,
    ) -> tuple[list[Completion], Leased | None]:
        """Complete, and lease the jobs that are due then, in one step.

        No job is leased (None) where an answer was stale, since the worker tries that one again.
        """
        return await self._complete(attempt, answers, wanted, took, cooldown)

    async def _complete(
        self,
        attempt: Attempt,
        answers: Mapping[str, Answer],
        wanted: LeaseRequest | None,
        took: float,
        cooldown: float | None,
    ) -> tuple[list[Completion], Leased | None]:
        common = {
            "token": attempt.token,
            "epoch": attempt.epoch,
            "lease": attempt.lease,
            "oldest": int(OLDEST_TOKEN * SECOND),
        }
        costs = {"took": int(took * SECOND), "cooldown": _ticks(cooldown)}
        completed: list[Completion] = []
        leased: Leased | None = None
        refused: set[str] = set()  # jobs of which a piece was refused, so that no more are written
        packed_answers = (
            piece
            for name, each in answers.items()
            for piece in _packed(name, each, costs)
            if name not in refused
        )
        for part in _in_parts(packed_answers):
            is_last = len(completed) + part.completed == len(answers)
            following = {"next": self._packed(wanted)} if wanted and is_last else {}
            await self._upload(part)
            request = scripts.encode({**common, "answers": part.answers, **following})
            raw: bytes = await self._scripts["jobs/complete"](args=[request, *part.values])
            reply = msgspec.msgpack.decode(raw, type=CompleteReply)
            for answer, outcome in zip(part.answers, reply.outcomes, strict=True):
                if outcome.status != PARTIAL:
                    completed.append(outcome.completion())
                    refused |= {answer["name"]} if "partial" in answer else set()
            if reply.leased and wanted:
                leased = await self._filled(reply.leased.leased(), wanted)
        return completed, leased

    async def _upload(self, part: "_Part") -> None:
        """Write large values under keys of their own, which the script renames."""
        if part.uploads:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for key, value in part.uploads.items():
                    pipeline.set(key, value, ex=UPLOAD_TTL)
                await pipeline.execute()

    async def fail(
        self,
        attempt: Attempt,
        delays: Sequence[float],
        reason: Mapping[str, str],
        *,
        unlimited: bool = False,
    ) -> tuple[int, float | None]:
        """Delay one failed job or, when its `delays` are used up, bury it as a dead letter.

        With `unlimited` the last delay is repeated without end. Return the number of attempts so
        far (0: the lease belongs to another worker) and the delay in seconds (None: buried).
        """
        [name] = attempt.names
        fields = {"name": name, "consumer": self._owner, "failed_at": timestamp(), **reason}
        failed = await self._reply(
            FailReply,
            "jobs/fail",
            keys.DEAD_LETTERS,
            name=name,
            token=attempt.token,
            lease=attempt.lease,
            delays=[int(delay * SECOND) for delay in delays],
            unlimited=unlimited,
            error=reason.get("error", ""),
            dead=[part for field in fields.items() for part in field],
            dead_limit=self._dead_limit,
        )
        return failed.attempts, None if failed.delay is None else failed.delay / SECOND

    async def release(self, names: Sequence[str] | None = None) -> int:
        """Release this owner's leases, all of them or those on `names`; return how many."""
        if names is None:
            names = await self._leased()
        released = 0
        for some, _ in in_steps(names, MOST_LEASES):
            released += int(await self._run("jobs/release", owner=self._owner, names=some))
        return released

    async def _leased(self) -> list[str]:
        """Return the names of all jobs that this owner has leased."""
        found = self._redis.hscan_iter(keys.LEASES, count=MOST_LEASES)
        own = f"{self._owner}/".encode()
        return [name.decode() async for name, lease in found if lease.startswith(own)]

    async def sweep(self, cursor: str, count: int) -> tuple[str, int]:
        """Enqueue the jobs of which a key is missing, among about `count` from a cursor on.

        The first cursor is "0". Return the next cursor ("0": the search is complete) and how many
        jobs were enqueued.
        """
        swept = await self._reply(SweepReply, "consistency/sweep", cursor=cursor, count=count)
        return swept.cursor, swept.missing

    async def is_same_history(self, history: str) -> bool:
        """Say whether the database has the history that it had; without an earlier one it has."""
        known: Any = await self._redis.hget(keys.CLOCK, "history")
        return known is None or known.decode(errors="replace") == history

    async def keep_history(self, history: str) -> None:
        """Remember the history of the database."""
        await self._redis.hset(keys.CLOCK, "history", history)

    async def doubt_all(self) -> None:
        """Make the present states of all dojos doubtful."""
        await self._run("consistency/doubt", dojos=[keys.EVERY_DOJO])

    async def pending(self, priority: Priority) -> int:
        """Return how many jobs of a class are pending."""
        return int(await self._redis.zcard(keys.due(priority)))

    async def jobs_with_keys(self) -> list[str]:
        """Return the names of all jobs that have keys in the cache."""
        found = self._redis.hscan_iter(keys.KEY_INDEX, count=MOST_LEASES)
        return [*{name.decode(): None async for name, _ in found}]


def timestamp() -> str:
    """Return the present time in the format of dead letters and logs."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def packed(
    consequences: Iterable[tuple[Consequence, Provenance | None]],
) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the jobs and the ids of the acknowledged solves, in the scripts' format."""
    jobs, acknowledged = [], []
    for consequence, provenance in consequences:
        if isinstance(consequence, PendingJob):
            jobs.append(consequence.packed(provenance))
        else:
            acknowledged.append(consequence.submission_id)
    return jobs, acknowledged


def _ticks(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * SECOND)


class _Piece(NamedTuple):
    """An answer in the scripts' format, or a part of a large one, and its values."""

    answer: dict[str, Any]
    values: list[tuple[str, bytes, int | None]]
    """Key, JSON, and the token of a value that has its own."""


def _packed(name: str, answer: Answer, costs: Mapping[str, Any]) -> Iterator[_Piece]:
    """Yield an answer in pieces: all but the last only write values, or enqueue jobs."""
    common = {"name": name, "owner": answer.owner, "oldest": _ticks(answer.oldest)}
    values: list[tuple[str, bytes, int | None]] = []
    size = 0
    for key, value in answer.values.items():
        raw = value if isinstance(value, bytes) else orjson.dumps(value)
        values.append((key, raw, answer.as_of.get(key)))
        size += len(raw)
        if size >= PART:
            yield _Piece({**common, "partial": True, **answer.boards}, values)
            values, size = [], 0
    for step, is_last in in_steps(answer.consequences):
        jobs, acknowledged = packed((each, None) for each in step)
        following = {"jobs": jobs, "acknowledged": acknowledged}
        if not is_last:
            yield _Piece({**common, "partial": True, **following}, [])
    yield _Piece(
        {
            **common,
            **following,
            "key_index": msgspec.json.encode(sorted(answer.values)).decode(),
            "changes_at": None if answer.until is None else microseconds(answer.until),
            "has_values": bool(answer.values),
            **costs,
            **(
                {}
                if answer.cooldown is None
                else {"cooldown": _ticks(answer.cooldown), "own_cooldown": True}
            ),
            **answer.boards,
        },
        values,
    )


class _Part(NamedTuple):
    """What one call of the script `jobs/complete` writes."""

    answers: list[dict[str, Any]]
    values: list[bytes]
    uploads: dict[str, bytes]

    @property
    def completed(self) -> int:
        """How many of the answers are complete with this part."""
        return sum("partial" not in each for each in self.answers)

    def add(self, piece: _Piece) -> None:
        """Add an answer or a part of one."""
        placed: list[tuple[Any, ...]] = []
        for key, value, token in piece.values:
            if len(value) >= LARGE:
                place: int | str = f"{keys.UPLOADS}{uuid.uuid4().hex}"
                self.uploads[str(place)] = value
            else:
                self.values.append(value)
                place = len(self.values) + 1  # in ARGV, where the request is the first
            placed.append((key, place) if token is None else (key, place, token))
        self.answers.append({**piece.answer, "values": placed})


def _in_parts(pieces: Iterable[_Piece]) -> Iterator[_Part]:
    """Yield answers in parts, since a script blocks Redis while it writes one."""
    part, size, jobs = _Part([], [], {}), 0, 0
    for piece in pieces:
        part.add(piece)
        size += sum(len(value) for _, value, _ in piece.values)
        jobs += len(piece.answer.get("jobs", ()))
        if size >= PART or jobs >= STEP or len(part.answers) == MOST_ANSWERS:
            yield part
            part, size, jobs = _Part([], [], {}), 0, 0
    if part.answers:
        yield part
