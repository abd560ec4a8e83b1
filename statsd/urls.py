"""Server addresses as users have them, and as they may be shown."""

import re
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

WANT_DATABASE = "want postgresql://user:password@host:5432/database"
WANT_REDIS = "want redis://host:6379/0, rediss:// or unix://"

_POSTGRES = ("postgresql", "postgres")
_REDIS = ("redis", "rediss", "unix")
_LARGEST_PORT = 65_535

# What libpq takes in a URL and asyncpg takes by another name, takes too, or has no use for.
_RENAMED = {"sslmode": "ssl", "connect_timeout": "timeout"}
_KEPT = {
    "application_name",
    "host",
    "passfile",
    "password",
    "port",
    "ssl",
    "target_session_attrs",
    "timeout",
    "user",
}
_DROPPED = {
    "channel_binding",
    "client_encoding",
    "fallback_application_name",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
}


def database_url(text: str) -> str:
    """Return an address of PostgreSQL as SQLAlchemy's, with asyncpg as its driver.

    Raises ValueError, which tells nothing of the address, for anything that is none.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError(f"this is no URL; {WANT_DATABASE}") from None
    if url.get_backend_name() not in _POSTGRES:
        raise ValueError(f"this is not PostgreSQL; {WANT_DATABASE}")
    if not url.database:
        raise ValueError(f"the database's name is missing; {WANT_DATABASE}")
    if "@" in (url.host or "") or not 0 < (url.port or 1) <= _LARGEST_PORT:
        raise ValueError(f"host or port is none (@ in a password is %40); {WANT_DATABASE}")
    asyncpg = url.set(drivername="postgresql+asyncpg", query=_query(url))
    return asyncpg.render_as_string(hide_password=False).replace(" ", "%20")


def _query(url: URL) -> dict[str, str | tuple[str, ...]]:
    strange = set(url.query) - _KEPT - _DROPPED - set(_RENAMED)
    if strange:
        raise ValueError(f"these parameters are not understood: {', '.join(sorted(strange))}")
    query = {
        _RENAMED.get(name, name): value for name, value in url.query.items() if name not in _DROPPED
    }
    if not re.fullmatch(r"\d+(\.\d+)?", str(query.get("timeout", "1"))):
        raise ValueError("connect_timeout is no number of seconds")
    return query


def connect_arguments(url: URL) -> tuple[URL, dict[str, Any]]:
    """Split off what asyncpg wants as arguments of other types than text."""
    query = dict(url.query)
    arguments: dict[str, Any] = {}
    if "timeout" in query:
        arguments["timeout"] = float(str(query.pop("timeout")))
    if "application_name" in query:
        arguments["server_settings"] = {"application_name": str(query.pop("application_name"))}
    return url.set(query=query), arguments


def redis_url(text: str) -> str:
    """Return an address of Redis. Raises ValueError for anything that is none."""
    scheme, separator, _ = text.partition("://")
    if not separator or scheme not in _REDIS:
        raise ValueError(f"this is no address of Redis; {WANT_REDIS}")
    try:
        _ = urlsplit(text).port
    except ValueError:
        raise ValueError(f"the port is none; {WANT_REDIS}") from None
    return text


def masked(text: str) -> str:
    """Return a text with the passwords of all URLs in it replaced by stars."""
    text = re.sub(r"(://[^:/@\s\"]*):[^\s/\"]*@", r"\1:***@", text)
    return re.sub(r"([?&](?:password|sslpassword)=)[^&\s\"'\\]*", r"\1***", text)
