"""The dead letters for operators: list, replay and drop."""

import re
import sys
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from redis.asyncio import Redis

from statsd import keys, scripts
from statsd.errors import StatsdError
from statsd.job import Priority
from statsd.stream.event_stream import CUT

PAGE = 100  # dead letters read at once
_ID = re.compile(r"\d{1,20}-\d{1,20}")


class Letter(NamedTuple):
    """One dead letter: an entry of the stream, or a job."""

    id: str
    fields: dict[str, bytes]

    def text(self, field: str) -> str:
        """Return a field as printable text: it may hold any bytes."""
        raw = self.fields.get(field, b"").decode(errors="backslashreplace")
        return "".join(
            letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1]
            for letter in raw
        )

    @property
    def subject(self) -> str:
        """The name of the job, or the id of the entry in the stream."""
        return self.text("name") or f"event {self.text('id')}"


class DeadLetters:
    """`stat:events:dead`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._replay = redis.register_script(scripts.source("jobs/replay"))

    async def newest(self, limit: int | None = None) -> AsyncIterator[Letter]:
        """Yield dead letters, the newest first; all of them, or up to `limit`."""
        end = "+"
        left = sys.maxsize if limit is None else limit
        while left and (page := await self._page(end, min(left, PAGE))):
            for letter in page:
                yield letter
            left -= len(page)
            end = f"({page[-1].id}"

    async def _page(self, end: str, count: int) -> list[Letter]:
        page: Any = await self._redis.xrevrange(keys.DEAD_LETTERS, end, "-", count)
        return [_letter(letter_id, fields) for letter_id, fields in page]

    async def get(self, letter_id: str) -> Letter | None:
        """Return the dead letter with this id; None where there is none."""
        checked = _checked(letter_id)
        found: Any = await self._redis.xrange(keys.DEAD_LETTERS, checked, checked)
        return _letter(*found[0]) if found else None

    async def replay(self, letter_id: str) -> str:
        """Replay a dead letter and remove it, in one step.

        Return `replayed`, `gone` (there is none of this id) or `incomplete` (the data of the entry
        was too large to be kept, or the entry had none).
        """
        request = {
            "id": _checked(letter_id),
            "class": int(Priority.INTERACTIVE),
            "cut": CUT.decode(),
        }
        reply = await self._replay([keys.DEAD_LETTERS, keys.STREAM], [scripts.encode(request)])
        return str(reply.decode())

    async def drop(self, letter_id: str) -> str:
        """Remove a dead letter. Return `dropped`, or `gone` where there is none of this id."""
        removed = await self._redis.xdel(keys.DEAD_LETTERS, _checked(letter_id))
        return "dropped" if removed else "gone"


def _checked(letter_id: str) -> str:
    if not _ID.fullmatch(letter_id):
        raise StatsdError(
            f"{letter_id!r} is no dead letter's id: they look like 1795410506881-0, "
            "see `statsd dead list`"
        )
    return letter_id


def _letter(letter_id: bytes, fields: dict[bytes, bytes]) -> Letter:
    return Letter(letter_id.decode(), {name.decode(): value for name, value in fields.items()})
