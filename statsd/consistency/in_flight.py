"""Whether all that was published up to some moment has been accepted.

Who finds that the cache and the database disagree has to know it: the event that will put it
right may be published in a moment, lie in the stream, or be in hand.

Entries are compared with where the stream ended when they were waited for, and how long is told
by the daemons' scheduling time: so no step of a clock matters.
"""

from typing import NamedTuple, Self

import msgspec
from redis.asyncio import Redis

from statsd import keys, scripts
from statsd.jobs.provenance import Id, id_of
from statsd.jobs.queue import SECOND

PATIENCE = 60 * SECOND  # for entries that were read and never get acknowledged


class Intake(NamedTuple):
    """How far the group has come in the stream."""

    moment: int
    """When that was, in scheduling time."""
    newest: Id | None = None
    """The last entry that was ever published; None where there is no stream, or no group."""
    read: Id = (0, 0)
    """The last one that was read, or all that are there were."""
    pending: Id | None = None
    """The first one that was read and is not acknowledged."""

    def has_read(self, end: Id) -> bool:
        """Say whether all entries up to one were read; a stream made anew may not come so far."""
        return self.newest is not None and self.read >= min(end, self.newest)

    def has_accepted(self, end: Id) -> bool:
        """Say whether all entries up to one were accepted."""
        return self.has_read(end) and (self.pending is None or self.pending > end)


async def intake(redis: Redis) -> Intake:
    """Look how far the group has come."""
    script = redis.register_script(scripts.source("intake"))
    found = await script([keys.STREAM], [scripts.encode({"group": keys.GROUP})])
    if len(found) == 1:
        return Intake(int(found[0]))
    now, newest, read, pending = found
    ids = [id_of(raw.decode()) if raw else None for raw in (newest, read, pending)]
    return Intake(int(now), ids[0], ids[1] or (0, 0), ids[2])


class Wait(msgspec.Struct, frozen=True):
    """Waiting, since a moment of scheduling time, for events of that time to be accepted."""

    since: int
    end: Id | None = None
    """Where the stream ended once they had had the time to be published, which was at `since`."""

    def go_on(self, seen: Intake, grace: int) -> Self:
        """Return what is waited for now; `grace` is how long an event may take to come."""
        if self.end or seen.newest is None or not _lasted(self.since, seen.moment, grace):
            return self
        return type(self)(seen.moment, seen.newest)

    def is_over(self, seen: Intake) -> bool:
        """Say whether they have been accepted.

        What was read and is still pending after a minute is not waited for: it may be an entry
        that holds up its daemon for ever, and is left aside.
        """
        if self.end is None:
            return False
        late = _lasted(self.since, seen.moment, PATIENCE) and seen.has_read(self.end)
        return late or seen.has_accepted(self.end)


def _lasted(since: int, moment: int, duration: int) -> bool:
    """Say whether so long has passed; also if `since` is of a clock that was lost."""
    return not 0 <= moment - since < duration
