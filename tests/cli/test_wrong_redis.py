"""Every command says in one line that REDIS_URL leads to a Redis that cannot be used."""

from collections.abc import Iterator

import pytest

from statsd.dev import embedded
from tests.support import replicas
from tests.support.commands import run_with

COMMANDS = [
    "status",
    "top --seconds 1",
    "why belts",
    "verify",
    "reconcile",
    "publish belts_update",
    "dead list",
]


@pytest.fixture(scope="module")
def sentinel() -> Iterator[str]:
    with replicas.redis_group() as group:
        yield f"redis://{group.url.partition('://')[2].partition(',')[0]}"


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with embedded.redis(arguments=["--cluster-enabled", "yes"]) as server:
        yield server.url


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("kind", "says"), [("sentinel", "it is a sentinel"), ("cluster", "cluster mode: it is on")]
)
def test_a_command_on_a_wrong_redis_is_one_line(
    request: pytest.FixtureRequest, database: str, kind: str, says: str, command: str
) -> None:
    variables = {"DATABASE_URL": database, "REDIS_URL": request.getfixturevalue(kind)}
    code, output, errors = run_with(variables)(*command.split())
    assert (code, output) == (2, "")
    assert errors.count("\n") == 1
    assert says in errors
    assert "REDIS_URL" in errors


@pytest.mark.parametrize("command", ["verify", "reconcile"])
def test_a_command_on_a_standby_is_one_line(command: str) -> None:
    with embedded.postgres() as server, embedded.redis() as redis:
        server.stop()
        (server.data / "standby.signal").touch()
        server.start()
        variables = {"DATABASE_URL": server.url, "REDIS_URL": redis.url}
        code, output, errors = run_with(variables)(command)
    assert (code, output) == (1, "")
    assert errors == (
        "statsd: role of PostgreSQL: it is a standby, which lags behind the events; "
        "let DATABASE_URL name the primary\n"
    )
