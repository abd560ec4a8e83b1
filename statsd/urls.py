"""Server addresses as users have them, and as they may be shown."""

import re
from typing import Any

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

_POSTGRES = ("postgresql", "postgres")
_REDIS = ("redis", "rediss", "unix")

# What libpq takes in a URL and asyncpg takes by another name, or has no use for.
_RENAMED = {
    "sslmode": "ssl",
    "connect_timeout": "timeout",
    "target_session_attrs": "target_session_attrs",
}
_DROPPED = {
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

    Raises ValueError for anything that is none.
    """
    want = "want postgresql://user:password@host:5432/database"
    try:
        url = make_url(text)
    except ArgumentError:
        raise ValueError(f"this is no URL; {want}") from None
    if url.get_backend_name() not in _POSTGRES:
        raise ValueError(f"{url.get_backend_name()} is not PostgreSQL; {want}")
    if not url.database:
        raise ValueError(f"the database's name is missing; {want}")
    query = {
        _RENAMED.get(name, name): value for name, value in url.query.items() if name not in _DROPPED
    }
    asyncpg = url.set(drivername="postgresql+asyncpg", query=query)
    return asyncpg.render_as_string(hide_password=False)


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
    if text.partition("://")[0] not in _REDIS:
        raise ValueError(
            "this is no address of Redis; want redis://host:6379/0, rediss:// or unix://"
        )
    return text


def masked(text: str) -> str:
    """Return a text with the passwords of all URLs in it replaced by stars."""
    text = re.sub(r"(://[^:/@\s\"]*):[^@\s/\"]*@", r"\1:***@", text)
    return re.sub(r"([?&](?:password|sslpassword)=)[^&\s]*", r"\1***", text)
