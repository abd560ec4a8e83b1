"""The event stream, read as one consumer of the group."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis

from statsd import keys, scripts
from statsd.jobs.pending import Consequence
from statsd.jobs.provenance import Provenance
from statsd.jobs.queue import packed, timestamp

LARGEST_DATA = 64 * 1024  # bytes of an entry that a dead letter keeps
CUT = b" [cut by statsd]"
PENDING, NEW = "0", ">"
FIRST = "0-0"
CLAIMED_AT_ONCE = 500  # entries
UNSAFE_ACKDEL = ("8.2.0", "8.2.1", "8.2.2")
"""Versions of Redis whose XACKDEL overflows its stack when it is given many ids."""


class Entry(NamedTuple):
    """One stream entry."""

    id: str
    data: bytes | None
    """Its field `data`; None where it has none."""
    deleted: bool
    """Whether somebody removed it from the stream after it was read and before it was handled."""


class DeadEntry(NamedTuple):
    """An entry that cannot become marks, and why."""

    entry: Entry
    error: str
    traceback: str
    event_type: str | None
    """None where that could not be read."""

    @property
    def data(self) -> bytes:
        """What the entry held, cut and marked where it is large."""
        data = self.entry.data or b""
        return data if len(data) <= LARGEST_DATA else data[:LARGEST_DATA] + CUT

    def fields(self, consumer: str) -> list[str | int]:
        """Return what the dead letters keep beside it: field, value, field, value, ..."""
        kept: Mapping[str, str | int] = {
            "id": self.entry.id,
            "error": self.error,
            "traceback": self.traceback,
            "attempts": 1,
            "consumer": consumer,
            "failed_at": timestamp(),
        }
        return [part for field in kept.items() for part in field]


class Claim(NamedTuple):
    """What a look through the group's pending entries gave."""

    cursor: str
    """Where the next look begins."""
    taken: int
    """How many entries are this consumer's now."""
    deleted: int
    """How many were no longer in the stream."""
    dismissed: list[str]
    """Consumers that held nothing and had been silent for long."""


class Stream:
    """`stat:events`, for one consumer.

    `reader` must be a client of its own, whose socket timeout is longer than `block` and that
    retries nothing: a read that was sent twice would leave entries pending unseen.
    """

    def __init__(
        self, redis: Redis, reader: Redis, consumer: str, *, block: float, dead_limit: int
    ) -> None:
        self._redis = redis
        self._reader = reader
        self.consumer = consumer
        self._block = int(block * 1000)
        self._dead_limit = dead_limit
        self._accept = redis.register_script(scripts.source("accept"))
        self._claim = redis.register_script(scripts.source("claim"))
        self._prepare = redis.register_script(scripts.source("prepare"))
        self._has_ackdel = False
        self._run_id: str | None = None
        self.server_version = ""

    @property
    def acknowledges_with(self) -> str:
        """The commands by which entries are acknowledged and removed."""
        return "XACKDEL" if self._has_ackdel else "XACK and XDEL"

    async def prepare(self) -> bool:
        """See what the server can do; make the group, with the stream, where it is not there.

        Return whether events or marks may have been lost: the group was not there, or the
        server is another than before, and may have come back with older data. Everything is
        owed then, from the same step on: nobody may be left to owe it after that.
        """
        server = await self._redis.info("server")
        run_id = str(server.get("run_id"))
        self.server_version = str(server.get("redis_version", ""))
        self._has_ackdel = self.server_version not in UNSAFE_ACKDEL and await knows_ackdel(
            self._redis
        )
        before = self._run_id
        request = {"group": keys.GROUP, "run": run_id} | ({"before": before} if before else {})
        in_doubt = await self._prepare([keys.STREAM], [scripts.encode(request)])
        self._run_id = run_id
        return bool(in_doubt) or before not in {None, run_id}

    async def read(self, start: str, count: int) -> list[Entry]:
        """Read up to `count` entries: new ones (`>`), or own pending ones after the id `start`.

        Waits for new ones, for the length of `block` at most; the list may be empty.
        """
        reply: Any = await self._reader.xreadgroup(
            keys.GROUP, self.consumer, {keys.STREAM: start}, count=count, block=self._block
        )
        return [
            Entry(entry_id.decode(), fields.get(b"data"), deleted=not fields)
            for _stream, entries in reply
            for entry_id, fields in entries
        ]

    async def claim(
        self, cursor: str, *, idle: float, gone: float, kept: Collection[str] = ()
    ) -> Claim:
        """Take over what others have had pending for `idle` seconds, a page from a cursor on.

        They are this consumer's pending entries then. Those `kept` are its own, which others
        shall not take over yet. Consumers that hold nothing and were silent for `gone` seconds
        are dismissed.
        """
        request = {
            "group": keys.GROUP,
            "consumer": self.consumer,
            "idle": int(idle * 1000),
            "gone": int(gone * 1000),
            "kept": list(kept),
            "cursor": cursor,
            "count": CLAIMED_AT_ONCE,
        }
        reply = await self._claim([keys.STREAM], [scripts.encode(request)])
        following, taken, deleted, dismissed = reply
        return Claim(following.decode(), taken, deleted, [name.decode() for name in dismissed])

    async def accept(
        self,
        ids: Sequence[str],
        consequences: Mapping[Consequence, Provenance | None],
        dead: Sequence[DeadEntry],
    ) -> int:
        """Put records down, bury dead entries and acknowledge all of `ids`, in one step.

        Each record has the events beside it that it is for. Return how many of the marks were there
        already.
        """
        jobs, acknowledged = packed(consequences.items())
        request: dict[str, Any] = {
            "group": keys.GROUP,
            "ids": ids,
            "ackdel": self._has_ackdel,
            "marks": jobs,
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
    """Say whether the server has XACKDEL; see UNSAFE_ACKDEL for where it is not to be used."""
    # As one word: what redis-py makes of a reply to COMMAND fails on a command unknown.
    known = await redis.execute_command("COMMAND INFO", "XACKDEL")  # type: ignore[no-untyped-call]
    return any(known)
