"""Running challenge containers, on real Docker engines."""

import asyncio
import json
import logging
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.consistency.reconcile import Reconcile
from statsd.dev import embedded
from statsd.jobs.attempt import Attempt
from statsd.jobs.pending import PendingJob
from statsd.servers import docker
from statsd.servers.database import Database
from statsd.servers.docker import Containers, Engines
from tests.support import docker_engines
from tests.support.daemon_parts import Parts
from tests.support.docker_engines import Engine
from tests.support.processes import daemon, eventually

ABSENT = "unix:///nowhere/docker.sock"
ATTEMPT = Attempt(names=("containers",), token=1, moment=1, epoch="", lease="")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    docker_engines.require()
    with (
        tempfile.TemporaryDirectory(prefix="e") as folder,
        docker_engines.engine(Path(folder)) as running,
    ):
        yield running


def labels(dojo: str, module: str, challenge: str) -> list[str]:
    return [
        f"dojo.dojo_id={dojo}",
        f"dojo.module_id={module}",
        f"dojo.challenge_id={challenge}",
        "dojo.user_id=77",
    ]


def fields(dojo: str, module: str, challenge: str) -> dict[str, str]:
    return {"dojo": dojo, "module": module, "challenge": challenge}


async def value(*addresses: str) -> Any:
    [answer] = (await Engines(addresses).execute([Containers()], ATTEMPT)).values()
    return answer.values[keys.CONTAINERS]


def test_containers_appear_and_disappear_in_the_cache(
    engine: Engine,
    database: str,
    redis_server: embedded.Redis,
    cache: "redis.Redis",
    tmp_path: Path,
) -> None:
    """After an event, and at the next interval without one; one of the two engines is absent."""
    variables = {"DATABASE_URL": database, "REDIS_URL": redis_server.url}
    variables |= {"STATSD_DOCKER_ENGINES": f"{ABSENT},{engine.address}"}

    def cached() -> Any:
        return orjson.loads(cache.get(keys.CONTAINERS) or b"null")

    with daemon(tmp_path / "log", STATSD_CONTAINERS_INTERVAL="3600", **variables) as running:
        eventually(lambda: cached() == [], "the empty list is cached")
        first = engine.start(*labels("d~0000000a", "m", "<c>"))
        engine.start("dojo.dojo_id=d", "other=1")
        cache.xadd(keys.STREAM, {"data": b'{"type": "container_stats_update"}'})
        eventually(
            lambda: cached() == [fields("d~0000000a", "m", "<c>")], "one container is listed"
        )
        engine.stop(first)
        cache.xadd(keys.STREAM, {"data": b'{"type": "container_stats_update"}'})
        eventually(lambda: cached() == [], "no container is listed")
        [line] = running.lines("a Docker engine does not answer; its containers are not counted")
        assert line["engine"] == ABSENT
    with daemon(tmp_path / "log", STATSD_CONTAINERS_INTERVAL="0.1", **variables):
        second = engine.start(*labels("d", "m", "c"))
        eventually(
            lambda: cached() == [fields("d", "m", "c")], "the container is found without an event"
        )
        engine.stop(second)
        eventually(lambda: cached() == [], "the end of the container is found without an event")


async def test_the_containers_of_all_engines_are_listed_in_order(engine: Engine) -> None:
    started = [engine.start(*labels("d", "m", name)) for name in ("b", "a")]
    one = [fields("d", "m", "a"), fields("d", "m", "b")]
    assert await value(engine.address, ABSENT) == one
    assert await value(engine.address, engine.address) == [one[0], one[0], one[1], one[1]]
    for container in started:
        engine.stop(container)
    assert await value(engine.address) == []


async def test_an_absent_engine_gives_an_empty_list_and_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    absent = Engines([ABSENT])
    for _ in range(3):
        found = await absent.execute([Containers()], ATTEMPT)
        assert found[Containers()].values == {keys.CONTAINERS: []}
    [record] = caplog.records
    assert (record.levelname, record.__dict__["engine"]) == ("WARNING", ABSENT)


RUNNING = {"Id": "x", "Labels": {"dojo.dojo_id": "d", "dojo.module_id": "m"}}
RUBBISH = [
    (200, "text/html", b"<html>"),
    (500, "text/plain", b"no"),
    (500, "application/json", b"[1]"),
    (500, "application/json", b"no"),
    (200, "application/json", b"{}"),
    (200, "application/json", b"null"),
    (200, "application/json", b"{bad"),
    (200, "application/json", b"\xff"),
    (200, "application/json", orjson.dumps([{"Id": "x", "Labels": None}])),
    (200, "application/json", orjson.dumps([RUNNING])),
]


@pytest.mark.parametrize(("status", "kind", "body"), RUBBISH, ids=str)
async def test_a_wrong_answer_of_one_engine_leaves_the_others_counted(
    engine: Engine, status: int, kind: str, body: bytes
) -> None:
    started = engine.start(*labels("d", "m", "c"))
    async with answering(status, kind, body) as address:
        assert await value(address, engine.address) == [fields("d", "m", "c")]
    engine.stop(started)


@pytest.mark.parametrize("label", [None, 7, "a\ud800"])
async def test_containers_with_invalid_labels_are_left_out(label: Any) -> None:
    odd = {"dojo.dojo_id": "d", "dojo.module_id": "m", "dojo.challenge_id": label}
    good = odd | {"dojo.challenge_id": "c"}
    body = json.dumps([{"Id": "x", "Labels": each} for each in (odd, good)]).encode()
    async with answering(200, "application/json", body) as address:
        assert await value(address) == [fields("d", "m", "c")]


@asynccontextmanager
async def answering(status: int, kind: str, body: bytes) -> AsyncIterator[str]:
    """Run a false engine: it answers with a version, and with this list of containers."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        version = b'{"ApiVersion": "1.43"}'
        code, content_type, text = status, kind, body
        if b"/version" in request.splitlines()[0]:
            code, content_type, text = 200, "application/json", version
        head = f"HTTP/1.1 {code} X\r\nContent-Type: {content_type}\r\n"
        head += f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + text)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_an_engine_that_does_not_answer_times_out(
    unanswering: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "TIMEOUT", 0.2)
    assert await value(unanswering) == []


@pytest.fixture
def unanswering() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"


async def test_without_the_library_the_list_is_empty_and_the_log_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(docker, "_INSTALLED", False)
    assert await value(ABSENT) == []
    [record] = caplog.records
    assert "pip install 'dojo-statsd[containers]'" in record.__dict__["error"]


async def test_without_engines_the_cached_list_becomes_empty(
    async_cache: Redis, snapshots: Database, cache: "redis.Redis"
) -> None:
    """At the next start, and at each reconcile."""
    parts = Parts(async_cache, snapshots)
    await parts.start()
    assert cache.get(keys.CONTAINERS) == b"[]"
    cache.set(keys.CONTAINERS, b"[1]")
    await parts.queue.enqueue([PendingJob(Reconcile())])
    await parts.answer()
    assert cache.get(keys.CONTAINERS) == b"[]"
