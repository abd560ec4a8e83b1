"""Whether the servers answer: asked at intervals, with a bounded patience."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from statsd.errors import StatsdError
from statsd.servers.outages import brief, is_transient

log = logging.getLogger(__name__)

INTERVAL = 2.0  # seconds between two rounds
PATIENCE = 3.0  # seconds for each server

Probe = Callable[[], Awaitable[object]]


async def failing(server: str, probe: Probe, patience: float) -> str:
    """Return why a server does not serve, a sentence; empty where it does."""
    try:
        async with asyncio.timeout(patience):
            await probe()
    except StatsdError as error:
        return str(error)
    except TimeoutError:
        return f"{server} does not serve: no answer in {patience:g} seconds"
    except Exception as error:
        if not is_transient(error):
            raise
        return f"{server} does not serve: {brief(error)}"
    return ""


class Probes:
    """Asks each server for a sign of life, also while nothing else needs it."""

    def __init__(self, probes: Mapping[str, Probe]) -> None:
        """Take, by each server's name, a coroutine function that fails while it is gone."""
        self._probes = probes
        self.names = list(probes)
        self.failures: dict[str, str] = {}
        """By server, why it does not serve, as of the last round; for everybody to read."""

    async def step(self) -> None:
        """Ask all at once; then rest."""
        found = await asyncio.gather(
            *(failing(name, self._probes[name], PATIENCE) for name in self.names)
        )
        failures = {name: reason for name, reason in zip(self.names, found, strict=True) if reason}
        for name in failures.keys() - self.failures.keys():
            log.warning("a server does not answer", extra={"server": name, "error": failures[name]})
        for name in self.failures.keys() - failures.keys():
            log.info("a server answers again", extra={"server": name})
        self.failures = {name: _public(reason) for name, reason in failures.items()}
        await asyncio.sleep(INTERVAL)

    async def recover(self) -> None:
        """Nothing is to be put right."""


def _public(reason: str) -> str:
    """Return a reason without what the server said, which may name roles and addresses."""
    return ":".join(reason.split(":")[:2])
