"""Handlers: one function for each type of event, which names what became stale.

One for each type, so that all that an event touches is read in one place and looked up once.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa

from statsd.errors import DuplicateError
from statsd.events import Event
from statsd.jobs.pending import Consequence

E = TypeVar("E", bound=Event)


class Lookup(Protocol):
    """Reads the database as it is after the events were read."""

    async def rows(self, statement: sa.Select[Any], parameters: Mapping[str, Any]) -> Sequence[Any]:
        """Return the statement's rows, whose columns are attributes."""


Handler = Callable[[Sequence[E], Lookup], Awaitable[Iterable[Consequence]]]

_handlers: dict[type[Event], Handler[Any]] = {}


def handles(event: type[E]) -> Callable[[Handler[E]], Handler[E]]:
    """Register the handler of an event type; it gets all events of the type in one batch.

    Raises DuplicateError, at import, where the type has a handler already.
    """

    def register(handler: Handler[E]) -> Handler[E]:
        if event in _handlers:
            other = _handlers[event]
            raise DuplicateError(
                f"{event.type} is handled by {other.__module__}.{other.__qualname__} already; "
                f"name there what {handler.__module__}.{handler.__qualname__} would"
            )
        _handlers[event] = handler
        return handler

    return register


def handler_of(event: type[Event]) -> Handler[Any] | None:
    """Return the handler of a type, or None where nothing depends on it yet."""
    return _handlers.get(event)
