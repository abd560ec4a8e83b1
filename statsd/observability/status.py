"""The state of all daemons on one screen, for `statsd status` and `statsd top`."""

from collections.abc import Iterator

import msgspec
from redis.asyncio import Redis

from statsd.observability import daemon_report
from statsd.observability.daemon_report import DaemonReport
from statsd.observability.queue_stats import QueueStats, queue_stats
from statsd.servers.finding import Level
from statsd.servers.redis_fitness import judged

STATE_WIDTH = 16  # characters
OLDEST_REPORT = 6.0  # seconds; a daemon reports every two
NO_DAEMON = (
    "no daemon works: start one, `statsd run`; one that waits for a server names it in its log"
)
UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


class Status(msgspec.Struct, frozen=True):
    """The queue's figures, and the newest report of each daemon."""

    queue_stats: QueueStats
    daemons: list[DaemonReport]
    troubles: list[str]
    """Problems, a sentence each; none when all is well."""


async def status(redis: Redis) -> Status:
    """Read the status once."""
    stats = await queue_stats(redis)
    reports = await daemon_report.reports(redis)
    dangers = [each for each in judged(await redis.info()) if each.level is Level.DANGER]
    unfit = [f"{each.subject}: {each.sentence}; {each.advice}" for each in dangers]
    return Status(stats, reports, [*unfit, *_troubles(stats, reports)])


def _troubles(stats: QueueStats, daemons: list[DaemonReport]) -> Iterator[str]:
    living = [each for each in daemons if _age(each, stats) <= OLDEST_REPORT]
    if not living:
        yield NO_DAEMON
    for each in daemons:
        if each not in living:
            age = duration(_age(each, stats))
            yield f"{each.name} has not reported for {age}; does it run? See its log"
        else:
            yield from (f"{each.name}: {trouble}" for trouble in each.troubles)
    if stats.dead:
        yield f"dead letters: {stats.dead}, see `statsd dead list`"


def _age(each: DaemonReport, stats: QueueStats) -> float:
    return max(0.0, stats.moment - each.at)


def screen(found: Status) -> str:
    """Return the status as text for people."""
    return "\n".join([*_summary(found), "", *_daemons(found), "", *_latencies(found)])


def _summary(found: Status) -> Iterator[str]:
    stats = found.queue_stats
    filling = "; a cold start or a rebuild is under way" if stats.is_filling else ""
    yield f"{'in trouble' if found.troubles else 'well'}{filling}"
    yield from (f"  {trouble}" for trouble in found.troubles)
    yield ""
    events = f"{stats.unread_events} unread, {stats.pending_events} pending"
    yield f"events   {events}, lag {duration(stats.lag)}"
    pending_jobs = ", ".join(
        f"{count} {name}"
        + (f" (due for {duration(stats.overdue[name])})" if stats.overdue[name] else "")
        for name, count in stats.pending_jobs.items()
        if count
    )
    yield f"pending  {pending_jobs or 'no jobs'}; {stats.running} running, {stats.delayed} delayed"
    drift = ", ".join(f"{count} {kind}" for kind, count in stats.drift.items()) or "none"
    missed = f"{stats.missed} solves without an event"
    yield f"faults   {stats.dead} dead letters, drift: {drift}, {missed}"


def _daemons(found: Status) -> Iterator[str]:
    width = max([6, *(len(each.name) for each in found.daemons)])
    yield (
        f"{'daemon':<{width}}  {'state':<{STATE_WIDTH}}  {'up':>7}  events/s  jobs/s  lag, ms"
        "  memory  pool  version"
    )
    for each in found.daemons:
        age = _age(each, found.queue_stats)
        state = "not ready" if each.unready else "ready"
        state = state if age <= OLDEST_REPORT else f"silent for {duration(age)}"
        up = duration(max(0.0, each.at - each.started))
        yield (
            f"{each.name:<{width}}  {state:<{STATE_WIDTH}}  {up:>7}  {each.events_per_second:>8.1f}"
            f"  {each.jobs_per_second:>6.1f}  {each.loop_lag * 1000:>7.0f}"
            f"  {each.memory / 1e6:>3.0f} MB  {each.pool_in_use}/{each.pool_size:<2}"
            f"  {each.version}"
        )
        if age <= OLDEST_REPORT:
            yield from (f"  {reason}" for reason in each.unready if reason not in each.troubles)


def _latencies(found: Status) -> Iterator[str]:
    """Yield the newest quantiles of each kind; of several daemons, the longest."""
    worst: dict[str, tuple[float, ...]] = {}
    for each in found.daemons:
        for kind, own in each.latency.items():
            worst[kind] = tuple(map(max, own, worst.get(kind, own)))
    yield f"{'milliseconds from publishing to cache':<38}{'p50':>9}{'p95':>9}{'p99':>9}"
    for kind, quantiles in sorted(worst.items()):
        yield f"  {kind:<36}" + "".join(f"{each:>9.1f}" for each in quantiles)


def duration(seconds: float) -> str:
    """Return a duration as text, in its largest unit."""
    for size, unit in UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"
