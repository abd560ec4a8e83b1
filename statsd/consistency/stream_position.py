"""The position of the consumer group in the stream, and waiting until events are accepted.

Where cache and database disagree, the event that will correct the value may be about to be
published, unread in the stream, or being handled. So a disagreement is judged only after the
events of that time were accepted.

Entry ids are compared with the end of the stream, and durations are measured in the daemons'
scheduling time. So no step of a clock matters.
"""

from typing import NamedTuple, Self

import msgspec
from redis.asyncio import Redis

from statsd import keys, scripts
from statsd.job import SECOND
from statsd.jobs.provenance import Id, id_of

PENDING_TIMEOUT = 60 * SECOND  # for entries that were read and never get acknowledged


class StreamPosition(NamedTuple):
    """How far the consumer group has come in the stream."""

    moment: int
    """The moment of the reading, in scheduling time."""
    newest: Id | None = None
    """The newest entry ever published; None if there is no stream, or no group."""
    read: Id = (0, 0)
    """The newest entry that was read; `newest` if no entry is unread."""
    pending: Id | None = None
    """The oldest entry that was read and is not acknowledged."""

    def has_read(self, end: Id) -> bool:
        """Say whether all entries up to `end`, or all of a new and shorter stream, were read."""
        return self.newest is not None and self.read >= min(end, self.newest)

    def has_accepted(self, end: Id) -> bool:
        """Say whether all entries up to `end` were read and acknowledged."""
        return self.has_read(end) and (self.pending is None or self.pending > end)


async def stream_position(redis: Redis) -> StreamPosition:
    """Read the position of the consumer group."""
    script = redis.register_script(scripts.source("stream/position"))
    reply: bytes = await script([keys.STREAM], [scripts.encode({"group": keys.GROUP})])
    found = msgspec.msgpack.decode(reply, type=_Reply)
    ids = [id_of(text) if text else None for text in (found.newest, found.read, found.pending)]
    return StreamPosition(found.moment, ids[0], ids[1] or (0, 0), ids[2])


class _Reply(msgspec.Struct):
    """The reply of the script, as described on top of it."""

    moment: int
    newest: str | None = None
    read: str | None = None
    pending: str | None = None


class AcceptanceWait(msgspec.Struct, frozen=True):
    """A wait, begun at a moment of scheduling time, until the events of that time are accepted.

    It has two stages. First, each event gets a grace time to be published. Then `end` is set to
    the end of the stream, `since` begins anew, and all entries up to `end` have to be accepted.
    """

    since: int
    """When the stage began."""
    end: Id | None = None
    """The end of the stream after the grace time; None during it."""

    def updated(self, position: StreamPosition, grace: int) -> Self:
        """Return the wait at a later position; `grace`, in microseconds, is for publishing."""
        in_grace = not _has_passed(self.since, position.moment, grace)
        if self.end or position.newest is None or in_grace:
            return self
        return type(self)(position.moment, position.newest)

    def is_over(self, position: StreamPosition) -> bool:
        """Say whether the events have been accepted.

        Entries that were read and are still pending after a minute do not count: a single entry
        could block its daemon, and this wait with it, for ever.
        """
        if self.end is None:
            return False
        timed_out = _has_passed(self.since, position.moment, PENDING_TIMEOUT)
        return (timed_out and position.has_read(self.end)) or position.has_accepted(self.end)


def _has_passed(since: int, moment: int, duration: int) -> bool:
    """Say whether a duration has passed; also if `since` is in the future, after a lost clock."""
    return not 0 <= moment - since < duration
