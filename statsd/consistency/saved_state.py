"""What refreshes remember from one time to the next; it lies in Redis like any other value."""

import logging
from typing import TypeVar

import msgspec
import redis as redis_py
from redis.asyncio import Redis

log = logging.getLogger(__name__)

State = TypeVar("State", bound=msgspec.Struct)


async def remembered(redis: Redis, key: str, kind: type[State]) -> State | None:
    """Return the state under a key; None where there is none that this version understands."""
    try:
        raw: bytes | None = await redis.get(key)  # type: ignore[assignment]
        return None if raw is None else msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    except redis_py.ResponseError as error:
        if not str(error).startswith("WRONGTYPE"):
            raise
    log.warning("what was remembered is not understood, and begins anew", extra={"key": key})
    return None
