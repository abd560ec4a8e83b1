"""The web half, which runs inside a web application.

It needs `redis`, `orjson` and `msgspec`. `listen` and the readers also need the SQLAlchemy (1.4 or
2.x) of the application, so they are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import statsd.identity  # noqa: F401 - says so if the other `statsd` is here
from statsd.client.publisher import AsyncPublisher, Publisher

if TYPE_CHECKING:
    from statsd.client.listeners.sessions import listen
    from statsd.client.pages import CrewPage, ScoreboardEntry, ScoreboardPage
    from statsd.client.reader import AsyncReader, Reader

__all__ = [
    "AsyncPublisher",
    "AsyncReader",
    "CrewPage",
    "Publisher",
    "Reader",
    "ScoreboardEntry",
    "ScoreboardPage",
    "listen",
]

_NEED_SQLALCHEMY = {
    "AsyncReader": "statsd.client.reader",
    "CrewPage": "statsd.client.pages",
    "Reader": "statsd.client.reader",
    "ScoreboardEntry": "statsd.client.pages",
    "ScoreboardPage": "statsd.client.pages",
    "listen": "statsd.client.listeners.sessions",
}


def __getattr__(name: str) -> Any:
    if name in _NEED_SQLALCHEMY:
        return getattr(import_module(_NEED_SQLALCHEMY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
