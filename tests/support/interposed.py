"""A Redis client with which a test does something just before a certain command or script."""

from collections.abc import Awaitable, Callable
from hashlib import sha1
from typing import Any

from redis.asyncio import Redis

from statsd import scripts

Action = Callable[[], Awaitable[None]]


class Interposed(Redis):
    """A client that runs an action before each call of a script, or each use of a command."""

    before: tuple[str, Action] | None = None
    """The name of a script (`boards/install`) or of a command, and the action."""

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        """Run the action where the command is the one, and then the command."""
        if self.before:
            name, action = self.before
            wanted = ("EVALSHA", sha_of(name)) if "/" in name else (name,)
            if arguments[: len(wanted)] == wanted:
                await action()
        return await super().execute_command(*arguments, **options)  # type: ignore[no-untyped-call]


def sha_of(script: str) -> str:
    """The SHA by which Redis knows a script."""
    return sha1(scripts.source(script).encode()).hexdigest()  # noqa: S324 - Redis uses it


def interposed(client: Redis) -> Interposed:
    """Return such a client for the same server; it shares the connections of `client`."""
    return Interposed(connection_pool=client.connection_pool)
