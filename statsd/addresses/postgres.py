"""The address of PostgreSQL, in DATABASE_URL: libpq's forms, as arguments of asyncpg.

    postgresql://user:password@host:5432/database?sslmode=verify-full&sslrootcert=/ca.pem
    postgresql://user@host1:5432,host2:5432/database        postgresql://%2Fvar%2Frun/database

asyncpg could read most of these by itself. But it reports wrong ones as errors of the connection,
and a home directory that it may not read as an outage.
"""

import getpass
import os
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from statsd.addresses import parts
from statsd.addresses.parts import Host, ParameterError

WANT = "want postgresql://user:password@host:5432/database"
PORT = 5432
LONGEST_CONNECT = 30.0  # seconds; the daemon's watchdog allows for it
SYSTEM = "system"
"""The value of sslrootcert for the certificates of the operating system."""

_SCHEMES = ("postgresql", "postgres")
_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# The words of asyncpg, SQLAlchemy and JDBC in `ssl=`, which libpq does not know.
_SSL = {**{mode: mode for mode in _MODES}, "true": "require", "false": "disable"}
_ATTRIBUTES = ("any", "read-write", "primary")
_KEEPALIVES = (
    "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
)  # fmt: skip
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_WITHOUT_EFFECT = {
    "channel_binding": ("disable", "prefer"),
    "client_encoding": ("utf8", "utf-8", "auto"),
    "fallback_application_name": None,
    "gssencmode": ("disable", "prefer"),
    "load_balance_hosts": None,
    "sslcompression": None,
    "sslsni": None,
}
"""Parameters that are accepted without effect, with the values for which that is right."""
_KNOWN = (
    "application_name", "connect_timeout", "dbname", "host", "options", "passfile", "password",
    "port", "ssl", "sslmode", "sslpassword", "target_session_attrs", "timeout", "user",
    *_FILES, *_KEEPALIVES, *_WITHOUT_EFFECT,
)  # fmt: skip


class PostgresAddress(NamedTuple):
    """A checked address."""

    options: Mapping[str, Any]
    """Arguments of asyncpg's `connect`."""
    encryption: tuple[ssl.SSLContext | bool, ...]
    """What to try for its argument `ssl`, in this order."""
    keepalives: Mapping[str, int]
    """Parameters of libpq about dead connections: seconds; `tcp_user_timeout`: milliseconds."""


def parse(text: str) -> PostgresAddress:
    """Return the address in a text. Raises ValueError, which does not quote it."""
    with parts.wanting(WANT):
        return _parse(text.strip())


def _parse(text: str) -> PostgresAddress:
    scheme, separator, _ = text.partition("://")
    if not separator:
        raise ValueError("the value is not a URL")
    if scheme.partition("+")[0] not in _SCHEMES:
        raise ValueError("the scheme is not that of PostgreSQL")
    url = parts.split(text)
    given = _parameters(url.query)
    user, password, rest = parts.login_in(url.netloc)
    hosts = list(_hosts(given.get("host") or unquote(rest), given.get("port", "")))
    database = given.get("dbname") or unquote(url.path).strip("/")
    if not database:
        raise ValueError("the database's name is missing")
    options: dict[str, Any] = {
        "user": given.get("user", user) or _own_user(),
        "password": given.get("password", password),
        "database": database,
        "host": [host for host, _ in hosts],
        "port": [port for _, port in hosts],
        **_timeout(given),
        "server_settings": {
            name: given[name] for name in ("application_name", "options") if name in given
        },
        "target_session_attrs": _target(given, many=len(hosts) > 1),
    }
    if "passfile" in given:
        options["passfile"] = parts.readable("passfile", given["passfile"])
    elif (
        options["password"] is None
        and "PGPASSFILE" not in os.environ
        and _home_file(".pgpass") is None
    ):
        options["password"] = os.environ.get("PGPASSWORD", "")  # asyncpg would look for that file
    keepalives = {name: parts.number(name, given[name]) for name in _KEEPALIVES if name in given}
    return PostgresAddress(options, _encryption(given), keepalives)


def _parameters(query: str) -> dict[str, str]:
    given = parts.parameters_in(query, _KNOWN)
    for name, values in _WITHOUT_EFFECT.items():
        if values and name in given:
            parts.choice(name, given[name].lower(), values)
    return given


def _hosts(text: str, ports: str) -> Iterator[Host]:
    """Yield hosts with ports: names, or folders of Unix sockets."""
    names = text.split(",") if text else [os.environ.get("PGHOST") or "localhost"]
    numbers = [parts.number("port", each, least=1) for each in ports.split(",") if each] or [
        _default_port()
    ]
    if len(numbers) not in {1, len(names)}:
        raise ValueError("there are fewer or more ports than hosts")
    for name, port in zip(names, numbers * (len(names) // len(numbers)), strict=True):
        if name.startswith("/"):
            folder, colon, own = name.rpartition(":")
            yield (folder, int(own)) if colon and own.isdecimal() else (name, port)
        else:
            yield parts.host_in(name, port)


def _default_port() -> int:
    return int(parts.number("PGPORT", os.environ.get("PGPORT") or str(PORT), least=1))


def _timeout(given: Mapping[str, str]) -> dict[str, float]:
    """Return the timeout for connecting; as in libpq, 0 stands for the default."""
    for name in ("connect_timeout", "timeout"):
        if name in given and (seconds := parts.number(name, given[name], kind=float)):
            return {"timeout": min(seconds, LONGEST_CONNECT)}
    return {}


def _target(given: Mapping[str, str], *, many: bool) -> str:
    """Return which of several hosts to use. The daemon needs the primary."""
    value = given.get("target_session_attrs", "primary" if many else "any")
    return parts.choice("target_session_attrs", value, _ATTRIBUTES)


def _own_user() -> str:
    """Return the user of this process, as libpq does where the URL has none."""
    try:
        return os.environ.get("PGUSER") or getpass.getuser()
    except (KeyError, OSError):
        raise ValueError("the user is missing, and the process's own user has no name") from None


def _home_file(name: str) -> Path | None:
    """Return a file in the home directory; None where it is missing or cannot be read."""
    try:
        file = Path.home() / name
        with file.open("rb"):
            return file
    except (OSError, RuntimeError):
        return None


def _encryption(given: Mapping[str, str]) -> tuple[ssl.SSLContext | bool, ...]:
    is_system = given.get("sslrootcert") == SYSTEM
    if "ssl" in given and "sslmode" not in given:
        mode = _SSL[parts.choice("ssl", given["ssl"].lower(), _SSL)]
    else:
        default = "verify-full" if is_system else "prefer"
        mode = given.get("sslmode") or os.environ.get("PGSSLMODE") or default
        parts.choice("sslmode", mode, _MODES)
    if is_system and mode != "verify-full":
        raise ParameterError(f"sslrootcert={SYSTEM} wants sslmode=verify-full, as in libpq")
    if mode == "disable":
        return (False,)
    context = _context(given, mode)
    if mode == "allow":
        return (False, context)
    return (context, False) if mode == "prefer" else (context,)


def _context(given: Mapping[str, str], mode: str) -> ssl.SSLContext:
    """Return the context of a mode, as libpq understands it.

    Files that are not named are looked for where libpq does so, in `~/.postgresql`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = mode == "verify-full"
    root = given.get("sslrootcert") or _home_file(".postgresql/root.crt")
    if mode in {"allow", "prefer"} or (mode == "require" and not root):
        context.verify_mode = ssl.CERT_NONE
    elif root == SYSTEM:
        context.load_default_certs()
    elif root:
        parts.trust(context, "sslrootcert", str(root))
    else:
        raise ParameterError(
            f"sslmode={mode} wants sslrootcert=/path/of/the/CA.pem, or sslrootcert={SYSTEM}"
        )
    if revoked := given.get("sslcrl"):
        parts.trust(context, "sslcrl", revoked)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    certificate = given.get("sslcert") or _home_file(".postgresql/postgresql.crt")
    key = given.get("sslkey") or _home_file(".postgresql/postgresql.key")
    if certificate:
        password = given.get("sslpassword", "")
        names = ("sslcert", "sslkey")
        parts.identify(context, names, str(certificate), str(key) if key else None, password)
    elif "sslkey" in given:
        raise ParameterError("sslkey wants sslcert too")
    return context
