"""Errors of the servers, in three classes: outages, wrong settings, and failures.

An outage passes, or somebody has to mend a server: the work waits, without count or end. A wrong
setting does not pass, so that waiting for it is of no use; it is told before the first success, and
later it counts as an outage. All other errors are failures: attempts are counted.

Errors are told apart by type or code.
"""

import socket
import ssl
from collections.abc import Iterator

import asyncpg
import redis
import sqlalchemy.exc

from statsd.addresses.redis_errors import MOVED_CODES, code_of
from statsd.errors import SettingsError, StatsdError, UnfitServerError

_REDIS = (
    redis.ConnectionError,  # refused, lost, loading
    redis.TimeoutError,
    redis.InvalidResponse,  # something else answers at this port
)
_POSTGRES = (
    OSError,  # refused, reset, no such host; TimeoutError is one too
    sqlalchemy.exc.TimeoutError,  # an engine's pool had no free connection
    asyncpg.TargetServerAttributeNotMatched,  # none of several hosts is the primary
)
# SQLSTATEs of a server, or of a pooler in front of it, that serves no client now: connection
# exceptions, too many connections, shutdown and start-up. During a restore, the database may be
# missing and authentication may fail; a missing right has to be granted.
_OUTAGE_SQLSTATES = ("08", "53300", "57P", "3D000", "28", "42501")
# SQLSTATEs of a statement that fails only now: a lock timeout, a full disk or memory, a table
# that a migration or a restore removed for a moment.
_TRANSIENT_SQLSTATES = ("53", "57014", "55P03", "40", "42P01", "42703", "3F000")
# Codes of replies of a Redis that cannot be used now. NOGROUP and UNBLOCKED: the stream or its
# group was deleted, and both are made anew.
_OUTAGE_CODES = MOVED_CODES | {
    "BUSY", "LOADING", "MISCONF", "NOAUTH", "NOGROUP", "NOPERM", "NOREPLICAS", "OOM", "UNBLOCKED",
    "UNKILLABLE", "WRONGPASS", "DENIED",
}  # fmt: skip
_CLOSED = "the handler is closed"
_REFUSALS = {
    "28P01": "the password is wrong, or the user does not exist",
    "28000": "this user may not log in from here (see pg_hba.conf)",
    "3D000": "the database does not exist",
}
# pgbouncer sends these with the SQLSTATE of any protocol error.
_POOLER_REFUSALS = ("no such database", "no such user", "authentication failed", "auth failed")


def causes(error: BaseException | None, *, context: bool = False) -> Iterator[BaseException]:
    """Yield an error and its causes; with `context` also errors during which it was raised."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        before = error.__context__ if context else None
        error = getattr(error, "orig", None) or error.__cause__ or before


def sqlstate(error: BaseException | None) -> str | None:
    """Return the SQLSTATE of an error of PostgreSQL or of its causes; None if there is none."""
    states = (getattr(each, "sqlstate", None) for each in causes(error))
    return next((state for state in states if isinstance(state, str)), None)


def is_denied(error: BaseException) -> bool:
    """Say whether the user of an address lacks a right."""
    return code_of(error) == "NOPERM" or sqlstate(error) == "42501"


def is_outage(error: BaseException) -> bool:
    """Return whether an error means that a server cannot be used for now."""
    if isinstance(error, SettingsError):
        return False  # whatever its cause: waiting does not correct a setting
    if isinstance(error, (*_REDIS, *_POSTGRES, UnfitServerError)):
        return True
    if isinstance(error, sqlalchemy.exc.DBAPIError) and error.connection_invalidated:
        return True
    if code_of(error) in _OUTAGE_CODES:
        return True
    # From uvloop, on a write to a connection that the other side has closed.
    if isinstance(error, RuntimeError) and str(error).endswith(_CLOSED):
        return True
    return (sqlstate(error) or "").startswith(_OUTAGE_SQLSTATES)


def is_transient(error: BaseException) -> bool:
    """Return whether the same work is likely to succeed later, without any correction.

    This holds for outages, and for errors of PostgreSQL that depend on the moment and not on the
    statement. A statement timeout is one of these, although a smaller batch may be what it needs.
    """
    return is_outage(error) or (sqlstate(error) or "").startswith(_TRANSIENT_SQLSTATES)


def wrong_setting(error: BaseException) -> str | None:
    """Return which setting is wrong, and what would be right; None for errors of other kinds."""
    if isinstance(error, UnfitServerError):
        return f"{error}; {error.advice}" if error.is_setting else None
    reason = _wrong_for_redis(error) if is_of_redis(error) else _wrong_for_postgres(error)
    variable = "REDIS_URL" if is_of_redis(error) else "DATABASE_URL"
    return reason and f"{variable}: {reason} ({brief(error)})"


def is_of_redis(error: BaseException) -> bool:
    """Say whether an error comes from the client of Redis."""
    return isinstance(error, redis.RedisError)


def _wrong_for_redis(error: BaseException) -> str | None:
    if isinstance(error, redis.AuthenticationError) or code_of(error) in {"NOAUTH", "WRONGPASS"}:
        return "the server refused the user or password; want redis://user:password@host:6379/0"
    if _says(error, "DB index"):
        return "the server has no database of that number"
    return _wrong_for_tls(error, "ssl_ca_certs", "ssl_certfile and ssl_keyfile", "redis://")


def _wrong_for_postgres(error: BaseException) -> str | None:
    state = sqlstate(error) or ""
    if state in _REFUSALS:
        return _REFUSALS[state]
    if state == "08P01" and _says(error, *_POOLER_REFUSALS):
        return "the pooler refused the user, the password or the database"
    if _says(error, "rejected SSL upgrade"):
        return "the server has no TLS: want sslmode=disable or prefer, or a server with ssl = on"
    return _wrong_for_tls(error, "sslrootcert", "sslcert and sslkey", "sslmode=disable")


def _wrong_for_tls(error: BaseException, authority: str, own: str, plain: str) -> str | None:
    """Explain an error of TLS with the names of the options of an address."""
    found = next(
        (each for each in causes(error, context=True) if isinstance(each, ssl.SSLError)), None
    )
    if isinstance(found, ssl.SSLCertVerificationError):
        return (
            f"the server's certificate does not verify ({found.verify_message}): {authority} has "
            "to name the file of the CA that signed it, and the host the name in it"
        )
    text = str(found or error).lower()
    if "certificate required" in text or "handshake failure" in text or "unknown ca" in text:
        return f"the server refused the client certificate, or the lack of one: see {own}"
    if "wrong version number" in text or "record layer failure" in text:
        return f"the server speaks no TLS at this port: want {plain}"
    return None


def advice(error: BaseException) -> str:
    """Return what to look at, in a few words, for an error that did not pass by itself."""
    if isinstance(error, UnfitServerError):
        return error.advice
    if wrong := wrong_setting(error):
        return wrong.partition(" (")[0]
    for kind, sentence in _ADVICE_BY_TYPE.items():
        if any(isinstance(each, kind) for each in causes(error, context=True)):
            return sentence
    key = code_of(error) or sqlstate(error) or ""
    return next((text for code, text in _ADVICE.items() if key.startswith(code)), _ANY_ADVICE)


_ADVICE_BY_TYPE: dict[type[BaseException], str] = {
    socket.gaierror: "does this host resolve the name in the URL?",
    ConnectionRefusedError: "does the server run, and are host and port right?",
    PermissionError: "may this user read the file or socket that the error names?",
    FileNotFoundError: "does the server run, and is this the path of its socket?",
    TimeoutError: "does a firewall drop packets, or does the server hang?",
    redis.TimeoutError: "does a firewall drop packets, or does the server hang?",
    redis.InvalidResponse: "is Redis the server at this port?",
}
_ADVICE = {
    "NOPERM": "grant the right that ACL LOG tells: docs/deployment.md has the least ACL",
    "42501": "grant the right that the error names: docs/deployment.md has the least ones",
    "OOM": "raise maxmemory of Redis, or free memory there",
    "MISCONF": "Redis cannot save: see its log, and the space on its disk",
    "NOREPLICAS": "Redis wants more replicas: see min-replicas-to-write",
    "BUSY": "a script holds Redis: see SLOWLOG; SCRIPT KILL ends one that has written nothing",
    "LOADING": "Redis loads its data; large data takes minutes",
    "READONLY": "the server is a replica: let REDIS_URL name the primary, or use redis+sentinel://",
    "MASTERDOWN": "the server is a replica without its primary",
    "MOVED": "the server is in cluster mode, which cannot be used",
    "53300": "raise max_connections of PostgreSQL, or lower STATSD_POOL_SIZE",
    "53": "PostgreSQL lacks memory or disk space: see its log",
    "57P": "PostgreSQL starts or stops: see its log",
    "55P03": "another session holds a lock: see pg_locks",
    "57014": "a statement was too slow: `statsd doctor` looks for missing indexes",
    "28": "the user may not log in: see pg_hba.conf and the role",
    "3D000": "the database is missing, perhaps for the time of a restore",
}
_ANY_ADVICE = "`statsd doctor` checks both servers"


class NoAnswerError(TimeoutError):
    """A probe of ours had no answer in time; the text is ours."""


def told(server: str, error: BaseException) -> str:
    """Return why a server does not serve, as a sentence with advice."""
    own = isinstance(error, (StatsdError, NoAnswerError))
    why = str(error) if own else brief(error)
    what = why if isinstance(error, StatsdError) else _does_not(server, why)
    return what if isinstance(error, SettingsError) else f"{what}; {advice(error)}"


def told_in_public(server: str, error: BaseException) -> str:
    """Return the same without the server's own text, which may name roles and addresses."""
    if isinstance(error, SettingsError):
        return str(error).partition(" (")[0]
    if isinstance(error, (StatsdError, NoAnswerError)):
        return told(server, error)
    return f"{_does_not(server, code_of(error) or type(error).__name__)}; {advice(error)}"


def _does_not(server: str, why: str) -> str:
    return f"{server} does not serve: {why}"


def brief(error: BaseException) -> str:
    """Return one line about an error, without the statement that SQLAlchemy adds."""
    original = getattr(error, "orig", None) or error
    lines = str(original).splitlines() or [""]
    return f"{type(original).__name__}: {lines[0][:300]}"


def _says(error: BaseException, *words: str) -> bool:
    return any(word.lower() in str(error).lower() for word in words)
