"""Probes of the servers at intervals, each with a timeout."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from statsd.errors import StatsdError
from statsd.servers.errors import brief, is_transient

log = logging.getLogger(__name__)

INTERVAL = 2.0  # seconds between two rounds
TIMEOUT = 3.0  # seconds for each server

Probe = Callable[[], Awaitable[object]]


async def failing(server: str, probe: Probe, seconds: float) -> str:
    """Return why a server does not serve, as a sentence; empty if it serves."""
    try:
        async with asyncio.timeout(seconds):
            await probe()
    except StatsdError as error:
        return str(error)
    except TimeoutError:
        return f"{server} does not serve: no answer in {seconds:g} seconds"
    except Exception as error:
        if not is_transient(error):
            raise
        return f"{server} does not serve: {brief(error)}"
    return ""


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
        found = await asyncio.gather(
            *(failing(name, self._probes[name], TIMEOUT) for name in self.names)
        )
        failures = {name: reason for name, reason in zip(self.names, found, strict=True) if reason}
        for name in failures.keys() - self.failures.keys():
            log.warning("a server does not answer", extra={"server": name, "error": failures[name]})
        for name in self.failures.keys() - failures.keys():
            log.info("a server answers again", extra={"server": name})
        self.failures = {name: _public(reason) for name, reason in failures.items()}
        await asyncio.sleep(INTERVAL)


def _public(reason: str) -> str:
    """Return a reason without the server's own text, which may name roles and addresses."""
    return ":".join(reason.split(":")[:2])
