"""An attempt at some jobs, the answers it gives, and what became of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from statsd.job import SECOND
from statsd.jobs.pending import Consequence
from statsd.jobs.provenance import id_of


class EventRef(NamedTuple):
    """An event, as in the fields of log lines."""

    entry: str
    event_type: str


class PrefetchedTotals(msgspec.Struct, frozen=True):
    """The totals of a dojo from its state (`statsd/boards/lua/totals.lua`)."""

    solves: int
    users: int
    chart: list[tuple[int, int]]
    """Solves and users on each day of the chart."""
    newest: list[int]
    """The entries of the newest solves, and perhaps others: a flat list of fields."""


@dataclass(frozen=True)
class Attempt:
    """Leased jobs, and the token of one attempt to answer them."""

    names: tuple[str, ...]
    token: int
    """Microseconds of the server's clock: the moment for which the answer is true."""
    moment: int
    """Microseconds of the queue's own time, which never goes back with that clock."""
    epoch: str
    """The epoch of the token."""
    lease: str
    queued: float = 0.0
    """Seconds for which the oldest job was due."""
    events: Mapping[str, EventRef] = field(default_factory=dict)
    """By job name, the newest event that it is pending for."""
    prefetched: Mapping[str, PrefetchedTotals] = field(default_factory=dict)
    """By job name of a dojo's statistics, its totals at the token."""
    changed: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """By job name, the challenges whose solves have changed; absent: anything may have."""
    known: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """By job name of a user's activity, the challenges that the user may have solved in the last
    year; absent: any."""

    def joined(self, further: "Attempt") -> "Attempt":
        """Return an attempt at these jobs and at further ones, with the token of these."""
        return replace(
            self,
            names=self.names + further.names,
            events={**self.events, **further.events},
            prefetched={**self.prefetched, **further.prefetched},
            changed={**self.changed, **further.changed},
            known={**self.known, **further.known},
        )

    @property
    def kind(self) -> str:
        """The kind of all its jobs."""
        return self.names[0].partition(":")[0]

    @property
    def newest_event(self) -> dict[str, str]:
        """The newest event of all jobs, as fields of a log line; empty where there is none."""
        events = (self.events[name] for name in self.names if name in self.events)
        newest = max(events, key=lambda event: id_of(event.entry), default=None)
        return newest._asdict() if newest else {}

    @property
    def now(self) -> datetime:
        """The token as a moment, naive UTC: the `now` of the statements."""
        return datetime.fromtimestamp(self.token / SECOND, UTC).replace(tzinfo=None)


class Answer(NamedTuple):
    """The result of one job: its keys with their values, and the consequences."""

    values: Mapping[str, Any]
    """By key; bytes are JSON already."""
    consequences: Iterable[Consequence] = ()
    """They may be made while they are enqueued."""
    boards: Mapping[str, Any] = {}
    """Changes of the states of dojos: see `statsd/boards/lua/hooks.lua`."""
    until: datetime | None = None
    """When the answer changes by itself (naive UTC), so that the job is enqueued again."""
    owner: str | None = None
    """The name of the job that the values belong to, if it is another one."""
    as_of: Mapping[str, int] = {}
    """By key, the token of values that were read at a later moment than that of the attempt."""
    cooldown: float | None = None
    """Seconds; None: as long as its executor says."""
    oldest: float | None = None
    """Seconds; an answer whose token is older is refused. None: the usual limit."""


class Completion(NamedTuple):
    """The outcome of one answer."""

    status: str
    """`completed`; `requeued`: written, and the job was enqueued meanwhile; `stale` or `fenced`:
    refused, because the token is too old, or the lease belongs to another worker."""
    waited: float | None = None
    """Seconds since the publication of the oldest event that it answers; None: for no event."""
    unchanged: int = 0
    """How many values were in the cache already, and were not written again."""
