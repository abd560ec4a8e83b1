"""Codes of error replies of Redis. A pipeline of redis-py puts text in front of an error's own."""

import redis

MOVED_CODES = {"READONLY", "MASTERDOWN", "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"}
_PIPELINE = "of pipeline caused error: "
# Of Redis 7.0, and of later versions; both have the code ERR.
_DENIED_IN_SCRIPT = ("The user executing the script can't", "ACL failure in script")


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
    first = text.split(" ", 1)[0]
    return first if first.isupper() and first.isalpha() else ""


def is_moved(reply: object) -> bool:
    """Say whether a Redis is no longer the primary: its connections are of no use any more.

    A client of Sentinel replaces the error reply by another error, which was raised during it.
    """
    if not isinstance(reply, BaseException):
        return False
    return code_of(reply) in MOVED_CODES or code_of(reply.__context__) in MOVED_CODES
