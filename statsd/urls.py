"""Addresses of servers: checked, converted for the drivers, and without passwords for logs."""

import re
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from redis.asyncio import ConnectionPool
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

WANT_DATABASE = "want postgresql://user:password@host:5432/database"
WANT_ENGINE = "want unix:///var/run/docker.sock or tcp://host:2375"
WANT_REDIS = "want redis://host:6379/0, rediss:// or unix://"

IN_PASSWORDS = "in a password, @ is %40, / is %2F, # is %23, ? is %3F"

_POSTGRES = ("postgresql", "postgres")
_ENGINES = ("tcp", "http", "https")
_REDIS = ("redis", "rediss", "unix")
_LARGEST_PORT = 65_535

# Parameters of libpq in a URL: asyncpg has another name for them, the same name, or no use.
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
    """Return an address of PostgreSQL in SQLAlchemy's form, with asyncpg as the driver.

    Raises ValueError for any other text. The message does not quote the address, as that may hold
    a password.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError(f"the value is not a URL; {WANT_DATABASE}") from None
    if url.get_backend_name() not in _POSTGRES:
        raise ValueError(f"the scheme is not that of PostgreSQL; {WANT_DATABASE}")
    if not url.database:
        raise ValueError(f"the database's name is missing; {WANT_DATABASE}")
    if "@" in (url.host or "") or not 0 < (url.port or 1) <= _LARGEST_PORT:
        raise ValueError(f"the host or port is not valid (@ in a password is %40); {WANT_DATABASE}")
    asyncpg = url.set(drivername="postgresql+asyncpg", query=_query(url))
    return asyncpg.render_as_string(hide_password=False).replace(" ", "%20")


def _query(url: URL) -> dict[str, str | tuple[str, ...]]:
    unknown = set(url.query) - _KEPT - _DROPPED - set(_RENAMED)
    if unknown:
        raise ValueError(f"these parameters are not supported: {', '.join(sorted(unknown))}")
    query = {
        _RENAMED.get(name, name): value for name, value in url.query.items() if name not in _DROPPED
    }
    if not re.fullmatch(r"\d+(\.\d+)?", str(query.get("timeout", "1"))):
        raise ValueError("connect_timeout is not a number of seconds")
    return query


def driver_options(url: URL) -> dict[str, Any]:
    """Return an address of `database_url` as the arguments of asyncpg's `connect`."""
    options = dict(url.get_dialect()().create_connect_args(url)[1])
    if "timeout" in options:
        options["timeout"] = float(options["timeout"])
    if "application_name" in options:
        options["server_settings"] = {"application_name": options.pop("application_name")}
    return options


def redis_url(text: str) -> str:
    """Return an address of Redis. Raises ValueError, without quoting it, for any other text."""
    scheme, separator, _ = text.partition("://")
    if not separator or scheme not in _REDIS:
        raise ValueError(f"the value is not an address of Redis; {WANT_REDIS}")
    try:
        path = urlsplit(text).path.strip("/")
        # The client will do the same: this finds ports and parameters that are not valid.
        ConnectionPool.from_url(text).make_connection()  # type: ignore[no-untyped-call]
    except (TypeError, ValueError):
        raise ValueError(
            f"the port or a parameter is not valid; {IN_PASSWORDS}; {WANT_REDIS}"
        ) from None
    if scheme != "unix" and path and not path.isdecimal():
        raise ValueError(f"after the slash comes the number of a database; {WANT_REDIS}")
    return text


def engine_url(text: str) -> str:
    """Return an address of a Docker engine.

    Raises ValueError for any other text, and for an address with a user or a password, as engines
    have neither. The message does not quote the address.
    """
    try:
        is_address = _is_engine(urlsplit(text))
    except ValueError:  # UnicodeError is one
        is_address = False
    if not is_address:
        raise ValueError(f"an entry is not an address of an engine; {WANT_ENGINE}")
    return text


def _is_engine(parts: SplitResult) -> bool:
    """Return whether this is a socket's path, or a host with a port. May raise ValueError."""
    if parts.scheme == "unix":
        return not parts.netloc and parts.path.strip("/") != ""
    host = (parts.hostname or "").encode("idna")
    is_bare = "@" not in parts.netloc and parts.path in {"", "/"}
    return parts.scheme in _ENGINES and is_bare and bool(host and parts.port)


def without_password(url: str) -> str:
    """Return an address with stars for its password."""
    scheme, separator, rest = url.partition("://")
    login, at, location = rest.rpartition("@")
    user, colon, _password = login.partition(":")
    shown = f"{scheme}{separator}{user}{':***' if colon else ''}{at}{location}"
    return re.sub(r"([?&](?:password|sslpassword)=)[^&]*", r"\1***", shown)


def credentials(url: str) -> list[str]:
    """Return the user and the password in an address, decoded, as far as it has them."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    named = [word for name in ("user", "username", "password") for word in query.get(name, [])]
    return [*named, *(unquote(word) for word in (parts.username, parts.password) if word)]


def masked(text: str) -> str:
    """Return free text with stars for the passwords in its URLs, as far as URLs can be found."""
    text = re.sub(r"(://[^:/@\s\"]*):[^\s/\"]*@", r"\1:***@", text)
    return re.sub(r"([?&](?:password|sslpassword)=)[^&\s\"'\\]*", r"\1***", text)
