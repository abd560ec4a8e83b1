"""Running challenge containers, as the Docker engines know them (contract, section 2).

No row of the database tells of them, so this is no calculator: the value is what the engines say.
It is asked for at intervals, and when an event tells that containers started or stopped.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson

from statsd import keys
from statsd.job import Job, register_kind
from statsd.jobs.queue import Answer, Attempt
from statsd.servers.outages import brief

try:
    import aiodocker
except ModuleNotFoundError:  # the extra `containers` is not installed
    _INSTALLED = False
else:
    _INSTALLED = True

log = logging.getLogger(__name__)

TIMEOUT = 3.0  # seconds in which an engine has to answer
LABELS = {
    "dojo": "dojo.dojo_id",
    "module": "dojo.module_id",
    "challenge": "dojo.challenge_id",
}
"""The fields of a value, and the labels they come from."""

_FILTERS = orjson.dumps({"label": sorted(LABELS.values()), "status": ["running"]}).decode()


class Containers(Job, frozen=True):
    """All running challenge containers: one value for the whole site."""

    kind: ClassVar[str] = "containers"


register_kind(Containers)


class Engines:
    """Answers `Containers`. An engine that does not answer has no containers, and a warning."""

    def __init__(self, addresses: Sequence[str]) -> None:
        """Take the engines' addresses: unix:///var/run/docker.sock, tcp://host:2375."""
        self._addresses = addresses
        self._absent: set[str] = set()

    async def execute(
        self, wanted: Sequence[Containers], _attempt: Attempt
    ) -> Mapping[Containers, Answer]:
        """Ask all engines at once."""
        replies = await asyncio.gather(*map(_running, self._addresses), return_exceptions=True)
        found: list[dict[str, str]] = []
        for address, reply in zip(self._addresses, replies, strict=True):
            if isinstance(reply, Exception):  # whatever it is: an engine may answer anything
                self._tell(address, reply)
            elif isinstance(reply, BaseException):
                raise reply
            else:
                self._tell(address, None)
                found += reply
        found.sort(key=lambda each: tuple(each.values()))
        return dict.fromkeys(wanted, Answer({keys.CONTAINERS: found}))

    def _tell(self, address: str, error: Exception | None) -> None:
        """Say it once when an engine goes, and when it is back."""
        shown = {"engine": address}
        if error and address not in self._absent:
            self._absent.add(address)
            log.warning(
                "a Docker engine does not answer; its containers are not counted",
                extra=shown | {"error": brief(error)},
            )
        elif not error and address in self._absent:
            self._absent.remove(address)
            log.info("a Docker engine answers again", extra=shown)


async def _running(address: str) -> list[dict[str, str]]:
    """Return what runs on an engine: a value's fields for each challenge container."""
    if not _INSTALLED:
        raise OSError("aiodocker is not installed: pip install 'dojo-statsd[containers]'")
    try:
        async with asyncio.timeout(TIMEOUT), aiodocker.Docker(address) as engine:
            containers = await engine.containers.list(filters=_FILTERS)
    except TimeoutError:
        raise TimeoutError(f"no answer within {TIMEOUT:.0f} s") from None
    fields = [_fields(container["Labels"]) for container in containers]
    return [each for each in fields if all(map(_is_name, each.values()))]


def _fields(labels: Mapping[str, Any]) -> dict[str, Any]:
    return {field: labels[label] for field, label in LABELS.items()}


def _is_name(label: object) -> bool:
    return isinstance(label, str) and keys.is_storable(label)
