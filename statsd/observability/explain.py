"""Why a cached value is as it is: who answers it, for which event, and what is owed."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from redis.asyncio import Redis

from statsd import keys
from statsd.consistency.compare import GARBLED, as_of_moment, decoded
from statsd.errors import StatsdError
from statsd.job import Priority, UnknownKindError, parse
from statsd.jobs.dead_letters import DeadLetters
from statsd.jobs.provenance import id_of
from statsd.jobs.queue import SECOND
from statsd.observability.queue_stats import label
from statsd.observability.status import duration, status

LETTERS = 200  # dead letters looked through, the newest


class UnknownKeyError(StatsdError):
    """No daemon has written such a key, and it is no refresh's name either."""


class Line(NamedTuple):
    """What is known of one thing."""

    subject: str
    text: str


class _Clock(NamedTuple):
    now: float
    """Unix seconds."""
    due: float
    """The same in scheduling time, microseconds."""


async def why(redis: Redis, key: str) -> list[Line]:
    """Return what is known of a key of the cache, or of a refresh by its name.

    Raises UnknownKeyError.
    """
    name, as_of_moment = await _name_of(redis, key)
    clock = await _clock(redis)
    found = [Line("answered by", name)]
    found += [each async for each in _value(redis, as_of_moment, clock)]
    found += await _last_answer(redis, name, clock)
    found += await _debt(redis, name, clock)
    change: Any = await redis.zscore(f"{keys.INTERNAL}changes", name)
    if change:
        found.append(Line("changes by itself", _moment(change / SECOND, clock)))
    found += [each async for each in _letters(redis, name)]
    return found + await _pressing(redis)


async def _name_of(redis: Redis, key: str) -> tuple[str, str | None]:
    """Return the name of the refresh that writes a key, and the key; None where a name is given."""
    key = key.removesuffix(":updated")
    if not keys.is_storable(key):
        raise UnknownKeyError(f"{key!a} is no key of the cache")
    owner: Any = await redis.hget(keys.KEY_OWNERS, key)
    if owner:
        return owner.decode(), key
    try:
        return parse(key).name, None
    except UnknownKindError:
        raise UnknownKeyError(
            f"no daemon has written {key!a}, and no refresh is called so; want a key of the cache, "
            "as stats:dojo:intro, or a refresh as the log names it, as dojo_stats:-5"
        ) from None


async def _clock(redis: Redis) -> _Clock:
    time: Any = await redis.time()
    offset: Any = await redis.hget(f"{keys.INTERNAL}clock", "offset")
    now = time[0] + time[1] / SECOND
    return _Clock(now, now * SECOND + int(offset or 0))


async def _value(redis: Redis, key: str | None, clock: _Clock) -> AsyncIterator[Line]:
    if key is None:
        return
    text, as_of = [await _text(redis, each) for each in (key, keys.updated(key))]
    size = "missing" if text is None else f"{len(text)} bytes"
    is_value = text is not None and decoded(text) is not GARBLED
    moment = as_of_moment(as_of)
    since = "no stamp" if moment is None else f"stamped {_shown(moment, clock)}"
    yield Line("value", f"{size}{'' if is_value or text is None else ', garbled'}, {since}")
    if not is_value or moment is None:
        yield Line("", "a sweep or an audit notices it in a while; `statsd reconcile` at once")


async def _text(redis: Redis, key: str) -> bytes | None:
    """Return what lies under a key; None where it is nothing, or no text."""
    is_text = await redis.type(key) == b"string"
    return await redis.get(key) if is_text else None  # type: ignore[return-value]


async def _last_answer(redis: Redis, name: str, clock: _Clock) -> list[Line]:
    raw: Any = await redis.hget(keys.LAST_RUNS, name)
    if not raw:
        return [Line("last answer", "none that is remembered")]
    token, took, entry, event_type = raw.decode().split("|")
    lines = [
        Line(
            "last answer", f"{_moment(int(token) / SECOND, clock)}, took {int(took) / 1000:.1f} ms"
        )
    ]
    return lines + _event("last event", entry, event_type, clock)


async def _debt(redis: Redis, name: str, clock: _Clock) -> list[Line]:
    job: Any = await redis.hgetall(keys.job(name))
    fields = {field.decode(): value.decode() for field, value in job.items()}
    if not fields:
        return [Line("pending", "no")]
    lease: Any = await redis.hget(keys.LEASES, name)
    priority = Priority(int(fields.get("class", Priority.ORDINARY)))
    due: Any = await redis.zscore(keys.due(priority), name)
    lines = [Line("pending", f"{label(priority)}, {_state(lease, due, clock)}")]
    lines += _event("for event", fields.get("entry", ""), fields.get("type", ""), clock)
    if "attempts" in fields and "error" in fields:
        lines.append(Line("failed", f"{fields['attempts']} times: {fields['error']}"))
    return lines


def _state(lease: bytes | None, due: float | None, clock: _Clock) -> str:
    if lease:
        return f"worked on by {lease.decode().rpartition('/')[0]}"
    if due is None:
        return "and nowhere to be found; the next event or the next audit finds it"
    seconds = (due - clock.due) / SECOND
    if seconds > 0:
        return f"next run in {duration(seconds)}"
    return f"due for {duration(-seconds)}"


def _event(subject: str, entry: str, event_type: str, clock: _Clock) -> list[Line]:
    if not entry:
        return []
    published = _moment(id_of(entry)[0] / 1000, clock)
    return [Line(subject, f"{event_type} {entry}, published {published}")]


async def _pressing(redis: Redis) -> list[Line]:
    """Return what may hold up any value: events that are on their way, and what is wrong."""
    found = await status(redis)
    waiting = found.queue_stats.unread_events + found.queue_stats.pending_events
    lines = [Line("events", f"{waiting} not accepted yet; they may be about it")] if waiting else []
    return lines + [Line("trouble", each) for each in found.troubles]


async def _letters(redis: Redis, name: str) -> AsyncIterator[Line]:
    async for letter in DeadLetters(redis).newest(LETTERS):
        if letter.text("name") == name:
            error = letter.text("error").replace("\n", " ")
            yield Line("dead letter", f"{letter.id}  {letter.text('failed_at')}  {error}")


def _moment(seconds: float, clock: _Clock) -> str:
    return _shown(datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None), clock)


def _shown(moment: datetime, clock: _Clock) -> str:
    """Return a moment (naive UTC) for people, and how far it is from now."""
    gap = clock.now - moment.replace(tzinfo=UTC).timestamp()
    text = moment.strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"{text}, {duration(gap)} ago" if gap >= 0 else f"{text}, in {duration(-gap)}"


def shown(lines: list[Line]) -> Iterator[str]:
    """Yield lines for people."""
    width = max(len(line.subject) for line in lines)
    yield from (f"{line.subject:<{width}}  {line.text}" for line in lines)
