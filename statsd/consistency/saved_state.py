"""The state that a job keeps from one run to the next, stored in Redis as the job's value."""

import logging
from typing import TypeVar

import msgspec
import redis as redis_py
from redis.asyncio import Redis

log = logging.getLogger(__name__)

State = TypeVar("State", bound=msgspec.Struct)


async def load_state(redis: Redis, key: str, state: type[State]) -> State | None:
    """Return the state under a key; None if there is none, or none that this version can read."""
    try:
        raw: bytes | None = await redis.get(key)  # type: ignore[assignment]
        return None if raw is None else msgspec.json.decode(raw, type=state)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    except redis_py.ResponseError as error:
        if not str(error).startswith("WRONGTYPE"):
            raise
    log.warning("saved state is unreadable; starting anew", extra={"key": key})
    return None
