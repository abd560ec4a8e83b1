"""The event stream, read as one consumer of the group."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from redis.asyncio import Redis

from statsd import keys, scripts
from statsd.jobs.pending import Consequence
from statsd.jobs.provenance import Provenance
from statsd.jobs.queue import packed, timestamp

LARGEST_DATA = 64 * 1024  # bytes of an entry that a dead letter keeps
CUT = b" [cut by statsd]"
PENDING, NEW = "0", ">"
FIRST = "0-0"
UNSAFE_ACKDEL = ("8.2.0", "8.2.1", "8.2.2")
"""Versions of Redis whose XACKDEL overflows its stack when it is given many ids."""


class Entry(NamedTuple):
    """One entry of the stream."""

    id: str
    data: bytes | None
    """The field `data`; None where the entry has none."""
    deleted: bool
    """Whether the entry was deleted from the stream after it was read."""


class DeadEntry(NamedTuple):
    """An invalid entry, and the reason."""

    entry: Entry
    error: str
    traceback: str
    event_type: str | None
    """None where the entry could not be decoded."""

    @property
    def data(self) -> bytes:
        """The data of the entry; large data is cut and ends in CUT."""
        data = self.entry.data or b""
        return data if len(data) <= LARGEST_DATA else data[:LARGEST_DATA] + CUT

    def fields(self, consumer: str) -> list[str | int]:
        """Return the dead letter's fields beside `data`: field, value, field, value, ..."""
        kept: Mapping[str, str | int] = {
            "id": self.entry.id,
            "error": self.error,
            "traceback": self.traceback,
            "attempts": 1,
            "consumer": consumer,
            "failed_at": timestamp(),
        }
        return [part for field in kept.items() for part in field]


class TakenOver(msgspec.Struct, frozen=True):
    """The result of a search for abandoned entries."""

    cursor: str
    """Where the next search begins; "0-0": this one came to the end."""
    taken: int
    """How many entries moved from other consumers to this one."""
    deleted: int
    """How many entries were no longer in the stream."""
    removed: list[str]
    """Consumers that were removed: they had no entries and had been silent for long."""


class Stream:
    """`stat:events`, for one consumer.

    `reader` must be a separate client whose socket timeout is longer than `block`. It must not
    retry: if it sent a read twice, the entries of the first one would stay pending and unhandled.
    """

    def __init__(
        self, redis: Redis, reader: Redis, consumer: str, *, block: float, dead_limit: int
    ) -> None:
        self._redis = redis
        self._reader = reader
        self.consumer = consumer
        self._block = int(block * 1000)
        self._dead_limit = dead_limit
        self._accept = redis.register_script(scripts.source("stream/accept"))
        self._take_over = redis.register_script(scripts.source("stream/take_over"))
        self._ensure_group = redis.register_script(scripts.source("stream/ensure_group"))
        self._has_ackdel = False
        self._run_id: str | None = None
        self.server_version = ""

    @property
    def acknowledges_with(self) -> str:
        """The commands that acknowledge and remove entries."""
        return "XACKDEL" if self._has_ackdel else "XACK and XDEL"

    async def ensure_group(self) -> bool:
        """Detect the server's commands; create the group and the stream where they are missing.

        Return whether events or jobs may have been lost: the group was missing, or the server was
        restarted, perhaps with older data. In that case the script also enqueues a reconcile in the
        same step, since this daemon may die before it could do so.
        """
        server = await self._redis.info("server")
        run_id = str(server.get("run_id"))
        self.server_version = str(server.get("redis_version", ""))
        self._has_ackdel = self.server_version not in UNSAFE_ACKDEL and await knows_ackdel(
            self._redis
        )
        before = self._run_id
        request = {"group": keys.GROUP, "run": run_id} | ({"before": before} if before else {})
        in_doubt = await self._ensure_group([keys.STREAM], [scripts.encode(request)])
        self._run_id = run_id
        return bool(in_doubt) or before not in {None, run_id}

    async def read(self, start: str, count: int) -> list[Entry]:
        """Read up to `count` entries: new ones (`>`), or own pending ones after the id `start`.

        Waits up to `block` seconds for new ones; the list may be empty.
        """
        reply: Any = await self._reader.xreadgroup(
            keys.GROUP, self.consumer, {keys.STREAM: start}, count=count, block=self._block
        )
        return [
            Entry(entry_id.decode(), fields.get(b"data"), deleted=not fields)
            for _stream, entries in reply
            for entry_id, fields in entries
        ]

    async def take_over(
        self, cursor: str, *, count: int, idle: float, gone: float, kept: Collection[str] = ()
    ) -> TakenOver:
        """Take over entries that other consumers have had pending for `idle` seconds.

        Up to `count` entries from a cursor on become this consumer's pending entries. Other
        consumers shall not take over the entries `kept` of this one. Consumers without pending
        entries that were silent for `gone` seconds are removed.
        """
        request = {
            "group": keys.GROUP,
            "consumer": self.consumer,
            "idle": int(idle * 1000),
            "gone": int(gone * 1000),
            "kept": list(kept),
            "cursor": cursor,
            "count": count,
        }
        reply: bytes = await self._take_over([keys.STREAM], [scripts.encode(request)])
        return msgspec.msgpack.decode(reply, type=TakenOver)

    async def accept(
        self,
        ids: Sequence[str],
        consequences: Mapping[Consequence, Provenance | None],
        dead: Sequence[DeadEntry],
    ) -> int:
        """Enqueue jobs, bury dead entries and acknowledge all of `ids`, in one step.

        `consequences` maps each consequence to its events. A step is small (`STEP`), since Redis
        does nothing else meanwhile. Return how many of the jobs were pending already.
        """
        jobs, acknowledged = packed(consequences.items())
        request: dict[str, Any] = {
            "group": keys.GROUP,
            "ids": ids,
            "ackdel": self._has_ackdel,
            "jobs": jobs,
            "acknowledged": acknowledged,
            "dead": [letter.fields(self.consumer) for letter in dead],
            "dead_limit": self._dead_limit,
        }
        merged = await self._accept(
            [keys.STREAM, keys.DEAD_LETTERS],
            [scripts.encode(request), *(letter.data for letter in dead)],
        )
        return int(merged)


async def knows_ackdel(redis: Redis) -> bool:
    """Say whether the server has XACKDEL; UNSAFE_ACKDEL has the versions that must not use it."""
    # As one word: redis-py cannot parse the reply to COMMAND for an unknown command.
    known = await redis.execute_command("COMMAND INFO", "XACKDEL")  # type: ignore[no-untyped-call]
    return any(known)
