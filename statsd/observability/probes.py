"""Probes of the servers at intervals, each with a timeout."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from statsd.errors import StatsdError
from statsd.servers.errors import NoAnswerError, is_transient, told, told_in_public

log = logging.getLogger(__name__)

INTERVAL = 2.0  # seconds between two rounds
TIMEOUT = 3.0  # seconds for each server

Probe = Callable[[], Awaitable[object]]


async def failing(probe: Probe, seconds: float) -> Exception | None:
    """Return why a probe fails; None if it succeeds. Raises errors that are no server's."""
    try:
        async with asyncio.timeout(seconds):
            await probe()
    except TimeoutError:
        return NoAnswerError(f"no answer in {seconds:g} seconds")
    except Exception as error:
        if not isinstance(error, StatsdError) and not is_transient(error):
            raise
        return error
    return None


class Probes:
    """Probes each server, even while no work needs it."""

    def __init__(self, probes: Mapping[str, Probe]) -> None:
        """Take, by server name, coroutine functions that fail while the server is lost."""
        self._probes = probes
        self.names = list(probes)
        self.failures: dict[str, str] = {}
        """Why servers do not serve, by name, as of the last round. Other threads may read it."""

    async def step(self) -> None:
        """Probe all servers at once; then sleep."""
        found = await asyncio.gather(*(failing(self._probes[name], TIMEOUT) for name in self.names))
        failures = {name: error for name, error in zip(self.names, found, strict=True) if error}
        for name in failures.keys() - self.failures.keys():
            reason = told(name, failures[name])
            log.warning("a server does not answer", extra={"server": name, "error": reason})
        for name in self.failures.keys() - failures.keys():
            log.info("a server answers again", extra={"server": name})
        self.failures = {name: told_in_public(name, error) for name, error in failures.items()}
        await asyncio.sleep(INTERVAL)
