"""The handlers of awards."""

from collections.abc import Iterable, Sequence

from statsd.events import BeltsUpdate, EmojisUpdate
from statsd.handlers.effects import EFFECTS
from statsd.handlers.registry import Lookup, handles
from statsd.jobs.pending import PendingJob, now_and_again

[_BELTS] = EFFECTS[BeltsUpdate]
[_EMOJIS] = EFFECTS[EmojisUpdate]


@handles(BeltsUpdate)
async def belts_changed(_events: Sequence[BeltsUpdate], _lookup: Lookup) -> Iterable[PendingJob]:
    """Enqueue the statistics of belts, which are one value of the site: many events, one write."""
    return now_and_again(_BELTS.jobs())


@handles(EmojisUpdate)
async def emojis_changed(_events: Sequence[EmojisUpdate], _lookup: Lookup) -> Iterable[PendingJob]:
    """Enqueue the statistics of emojis, which are one value of the site too."""
    return now_and_again(_EMOJIS.jobs())
