"""Explains a cached value: the job that writes it, its last answer, and whether it is pending."""

from collections.abc import AsyncIterator, Collection, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from redis.asyncio import Redis

from statsd import keys
from statsd.calculators.dojo_arrays import PARTS, Boards, Exports
from statsd.calculators.dojo_check import DojoCheck
from statsd.consistency.compare import GARBLED, as_of_moment, decoded
from statsd.errors import StatsdError
from statsd.job import SECOND, Job, Priority, UnknownKindError, known, parse
from statsd.jobs.dead_letters import DeadLetters
from statsd.jobs.provenance import id_of
from statsd.observability.queue_stats import label
from statsd.observability.status import duration, status

DEAD_LETTERS = 200  # that are searched, the newest ones
ARRAY_JOBS: tuple[type[Any], ...] = (Boards, *(part.job for part in PARTS))


class UnknownKeyError(StatsdError):
    """No daemon has written this key, and it is no job's name either."""


class Line(NamedTuple):
    """One line of the explanation."""

    subject: str
    text: str


class _Clock(NamedTuple):
    now: float
    """Unix seconds."""
    due: float
    """The same in scheduling time, microseconds."""


async def why(redis: Redis, key: str) -> list[Line]:
    """Explain a key of the cache, or a job by its name.

    Raises UnknownKeyError.
    """
    name, cached_key = await _name_of(redis, key)
    clock = await _clock(redis)
    found = [Line("job", name)]
    found += [each async for each in _value(redis, cached_key, clock)]
    found += await _last_answer(redis, name, clock)
    found += await _pending(redis, name, clock) or [Line("pending", "no")]
    for job in _movers(name):
        found += await _pending(redis, job.name, clock, subject=job.name)
    change: Any = await redis.zscore(keys.CHANGES, name)
    if change:
        found.append(Line("changes by itself", _moment(change / SECOND, clock)))
    names = {name, *(job.name for job in _movers(name))}
    found += [each async for each in _dead_letters(redis, names)]
    return found + await _delays(redis)


async def _name_of(redis: Redis, key: str) -> tuple[str, str | None]:
    """Return the name of the job that writes a key, and the key; for a job's name, None as key."""
    key = key.removesuffix(":updated")
    if not keys.is_storable(key):
        raise UnknownKeyError(f"{key!a} is not a key of the cache")
    owner: Any = await redis.hget(keys.KEY_OWNERS, key)
    if owner:
        return owner.decode(), key
    try:
        return parse(key).name, None
    except UnknownKindError:
        raise UnknownKeyError(
            f"no daemon has written {key!a}, and no job has this name; want a key of the cache, "
            "as stats:dojo:intro, or a job as the log names it, as dojo_stats:-5"
        ) from None


def _movers(name: str) -> list[Job]:
    """Return the jobs that change the values of a job in its place.

    The arrays of a dojo belong to one job, the whole pass. Other jobs write those that changed, and
    find out what changed.
    """
    return [
        mover
        for job in known([name])
        if isinstance(job, ARRAY_JOBS)
        for mover in (Boards(job.dojo_id), Exports(job.dojo_id), DojoCheck(job.dojo_id))
        if mover != job
    ]


async def _clock(redis: Redis) -> _Clock:
    time: Any = await redis.time()
    offset: Any = await redis.hget(keys.CLOCK, "offset")
    now = time[0] + time[1] / SECOND
    return _Clock(now, now * SECOND + int(offset or 0))


async def _value(redis: Redis, key: str | None, clock: _Clock) -> AsyncIterator[Line]:
    if key is None:
        return
    text, as_of = [await _text(redis, each) for each in (key, keys.updated(key))]
    size = "missing" if text is None else f"{len(text)} bytes"
    is_value = text is not None and decoded(text) is not GARBLED
    moment = as_of_moment(as_of)
    since = "no as-of" if moment is None else f"as of {_shown(moment, clock)}"
    yield Line("value", f"{size}{'' if is_value or text is None else ', garbled'}, {since}")
    if not is_value or moment is None:
        yield Line("", "the sweep or the audit repairs it soon; `statsd reconcile` does so at once")


async def _text(redis: Redis, key: str) -> bytes | None:
    """Return the string under a key; None where there is none, or another type."""
    is_text = await redis.type(key) == b"string"
    return await redis.get(key) if is_text else None  # type: ignore[return-value]


async def _last_answer(redis: Redis, name: str, clock: _Clock) -> list[Line]:
    raw: Any = await redis.hget(keys.LAST_RUNS, name)
    if not raw:
        return [Line("last answer", "none on record")]
    token, took, entry, event_type = raw.decode().split("|")
    lines = [
        Line(
            "last answer", f"{_moment(int(token) / SECOND, clock)}, took {int(took) / 1000:.1f} ms"
        )
    ]
    return lines + _event("last event", entry, event_type, clock)


async def _pending(
    redis: Redis, name: str, clock: _Clock, *, subject: str = "pending"
) -> list[Line]:
    """Return the state of a pending job, and its failures; nothing where it is not pending."""
    job: Any = await redis.hgetall(keys.job(name))
    fields = {field.decode(): value.decode() for field, value in job.items()}
    if not fields:
        return []
    lease: Any = await redis.hget(keys.LEASES, name)
    priority = Priority(int(fields.get("class", Priority.ORDINARY)))
    due: Any = await redis.zscore(keys.due(priority), name)
    lines = [Line(subject, f"{label(priority)}, {_state(lease, due, clock)}")]
    lines += _event("for event", fields.get("entry", ""), fields.get("type", ""), clock)
    if "attempts" in fields and "error" in fields:
        lines.append(Line("failed", f"{fields['attempts']} times: {fields['error']}"))
    return lines


def _state(lease: bytes | None, due: float | None, clock: _Clock) -> str:
    if lease:
        return f"running on {lease.decode().rpartition('/')[0]}"
    if due is None:
        return "but in no list; the next event or the next audit enqueues it again"
    seconds = (due - clock.due) / SECOND
    if seconds > 0:
        return f"next run in {duration(seconds)}"
    return f"due for {duration(-seconds)}"


def _event(subject: str, entry: str, event_type: str, clock: _Clock) -> list[Line]:
    if not entry:
        return []
    published = _moment(id_of(entry)[0] / 1000, clock)
    return [Line(subject, f"{event_type} {entry}, published {published}")]


async def _delays(redis: Redis) -> list[Line]:
    """Return possible delays of any value: events in the stream, and problems of the daemons."""
    found = await status(redis)
    waiting = found.queue_stats.unread_events + found.queue_stats.pending_events
    lines = [Line("events", f"{waiting} not accepted yet; they may concern it")] if waiting else []
    return lines + [Line("trouble", each) for each in found.troubles]


async def _dead_letters(redis: Redis, names: Collection[str]) -> AsyncIterator[Line]:
    async for letter in DeadLetters(redis).newest(DEAD_LETTERS):
        if letter.text("name") in names:
            error = letter.text("error").replace("\n", " ")
            yield Line("dead letter", f"{letter.id}  {letter.text('failed_at')}  {error}")


def _moment(seconds: float, clock: _Clock) -> str:
    return _shown(datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None), clock)


def _shown(moment: datetime, clock: _Clock) -> str:
    """Return a moment (naive UTC) as text, with its distance from now."""
    gap = clock.now - moment.replace(tzinfo=UTC).timestamp()
    text = moment.strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"{text}, {duration(gap)} ago" if gap >= 0 else f"{text}, in {duration(-gap)}"


def shown(lines: list[Line]) -> Iterator[str]:
    """Yield the explanation as lines of text."""
    width = max(len(line.subject) for line in lines)
    yield from (f"{line.subject:<{width}}  {line.text}" for line in lines)
