"""Codes of error replies of Redis. A pipeline of redis-py puts text in front of an error's own."""

import redis

MOVED_CODES = {"READONLY", "MASTERDOWN", "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"}
_PIPELINE = "of pipeline caused error: "
# Of Redis 7.0, and of later versions; both have the code ERR.
_DENIED_IN_SCRIPT = ("The user executing the script can't", "ACL failure in script")


_BY_TYPE: dict[type[Exception], str] = {
    redis.exceptions.MovedError: "MOVED",  # before AskError, of which it is a kind
    redis.exceptions.AskError: "ASK",
    redis.exceptions.BusyLoadingError: "LOADING",
    redis.exceptions.ClusterDownError: "CLUSTERDOWN",
    redis.exceptions.MasterDownError: "MASTERDOWN",
    redis.exceptions.NoPermissionError: "NOPERM",
    redis.exceptions.OutOfMemoryError: "OOM",
    redis.exceptions.ReadOnlyError: "READONLY",
    redis.exceptions.TryAgainError: "TRYAGAIN",
}
"""Codes that earlier versions of redis-py tell by the type alone."""


def code_of(error: BaseException | None) -> str:
    """Return the code of an error reply of Redis, such as `BUSY`; empty where it has none."""
    if not isinstance(error, redis.RedisError):
        return ""
    text = str(error).rpartition(_PIPELINE)[2].lstrip("('\"")
    if text.startswith(_DENIED_IN_SCRIPT):
        return "NOPERM"
    code = getattr(error, "status_code", None)
    if isinstance(code, str):
        return code
    for kind, name in _BY_TYPE.items():
        if isinstance(error, kind):
            return name
    first = text.split(" ", 1)[0]
    return first if first.isupper() and first.isalpha() else ""


def is_moved(reply: object) -> bool:
    """Say whether a Redis is no longer the primary: its connections are of no use any more.

    A client of Sentinel replaces the error reply by another error, which was raised during it.
    """
    if not isinstance(reply, BaseException):
        return False
    return code_of(reply) in MOVED_CODES or code_of(reply.__context__) in MOVED_CODES
