"""The registry of handlers: one function for each event type, which names jobs to enqueue.

There is one for each type, so that the consequences of an event are found in one place, and ids
are looked up once.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa

from statsd.errors import DuplicateError
from statsd.events import Event
from statsd.jobs.pending import Consequence

E = TypeVar("E", bound=Event)


class Lookup(Protocol):
    """Reads the database, in a snapshot that was opened after the events were read."""

    async def rows(self, statement: sa.Select[Any], parameters: Mapping[str, Any]) -> Sequence[Any]:
        """Return the statement's rows, whose columns are attributes."""


Handler = Callable[[Sequence[E], Lookup], Awaitable[Iterable[Consequence]]]
"""It looks up ids and may fail. What it returns may be made while it is enqueued, and cannot fail:
by then no event would be isolated."""

_handlers: dict[type[Event], Handler[Any]] = {}


def handles(event: type[E]) -> Callable[[Handler[E]], Handler[E]]:
    """Register the handler of an event type. It gets all events of the type in a batch.

    Raises DuplicateError, at import, if the type has a handler already.
    """

    def register(handler: Handler[E]) -> Handler[E]:
        if event in _handlers:
            other = _handlers[event]
            raise DuplicateError(
                f"{event.type} is handled by {other.__module__}.{other.__qualname__} already; "
                f"merge {handler.__module__}.{handler.__qualname__} into it"
            )
        _handlers[event] = handler
        return handler

    return register


def handler_of(event: type[Event]) -> Handler[Any] | None:
    """Return the handler of an event type, or None."""
    return _handlers.get(event)
