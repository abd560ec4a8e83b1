"""What an award makes stale."""

from collections.abc import Iterable, Sequence

from statsd.calculators.belts import Belts
from statsd.calculators.emojis import Emojis
from statsd.events import BeltsUpdate, EmojisUpdate
from statsd.handlers.registry import Lookup, handles
from statsd.jobs.pending import PendingJob, now_and_again


@handles(BeltsUpdate)
async def belts_changed(_events: Sequence[BeltsUpdate], _lookup: Lookup) -> Iterable[PendingJob]:
    """Mark the one value that has all belts: many awards in a moment are one write."""
    return now_and_again([Belts()])


@handles(EmojisUpdate)
async def emojis_changed(_events: Sequence[EmojisUpdate], _lookup: Lookup) -> Iterable[PendingJob]:
    """Mark the one value that has all emojis."""
    return now_and_again([Emojis()])
