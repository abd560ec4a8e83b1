"""Running challenge containers, as the Docker engines know them (contract, section 2).

The database has no row about containers, so no calculator can compute this value: it is the
engines' answer. They are asked at intervals, and after each event `container_stats_update`.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson

from statsd import keys
from statsd.job import Job, register_kind
from statsd.jobs.attempt import Answer, Attempt
from statsd.servers.errors import brief

try:
    import aiodocker
except ModuleNotFoundError:  # the extra `containers` is not installed
    _INSTALLED = False
else:
    _INSTALLED = True

log = logging.getLogger(__name__)

TIMEOUT = 3.0  # seconds for an engine's answer
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
    """The executor of `Containers`. An engine that does not answer counts as empty."""

    def __init__(self, addresses: Sequence[str]) -> None:
        """`addresses` are URLs: unix:///var/run/docker.sock, tcp://host:2375."""
        self._addresses = addresses
        self._absent: set[str] = set()

    async def execute(
        self, wanted: Sequence[Containers], _attempt: Attempt
    ) -> Mapping[Containers, Answer]:
        """Return the containers of all engines, which are asked at the same time."""
        replies = await asyncio.gather(*map(_running, self._addresses), return_exceptions=True)
        found: list[dict[str, str]] = []
        for address, reply in zip(self._addresses, replies, strict=True):
            if isinstance(reply, Exception):  # of any class: an engine may answer anything
                self._log_change(address, reply)
            elif isinstance(reply, BaseException):
                raise reply
            else:
                self._log_change(address, None)
                found += reply
        found.sort(key=lambda each: tuple(each.values()))
        return dict.fromkeys(wanted, Answer({keys.CONTAINERS: found}))

    def _log_change(self, address: str, error: Exception | None) -> None:
        """Log once that an engine stopped answering, and once that it answers again."""
        fields = {"engine": address}
        if error and address not in self._absent:
            self._absent.add(address)
            log.warning(
                "a Docker engine does not answer; its containers are not counted",
                extra=fields | {"error": brief(error)},
            )
        elif not error and address in self._absent:
            self._absent.remove(address)
            log.info("a Docker engine answers again", extra=fields)


async def _running(address: str) -> list[dict[str, str]]:
    """Return the fields of each challenge container that runs on an engine."""
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
