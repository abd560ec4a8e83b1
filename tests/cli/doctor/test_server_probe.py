"""Findings for failed checks, and for checks of a lost server."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
import redis
from redis.exceptions import NoPermissionError

from statsd.cli.doctor.server_probe import ServerProbe
from statsd.errors import SettingsError
from statsd.servers.finding import Finding, Level

DENIED = "User bob has no permissions to run the 'info' command"
FINE = Finding(Level.OK, "memory", "there is some")


async def failing(error: Exception) -> AsyncIterator[Finding]:
    yield FINE
    raise error


async def succeeding() -> AsyncIterator[Finding]:
    yield FINE


def probe() -> ServerProbe:
    return ServerProbe("Redis", ["web", "p@ss!"], timeout=5)


@pytest.mark.parametrize(
    ("error", "masked"),
    [
        (redis.ResponseError('no such user "bob"'), "no such user ***"),
        (redis.ResponseError("no such user: web."), "no such user: ***"),
        (redis.ResponseError("web and p@ss! and webs"), "*** and *** and webs"),
        (redis.ResponseError("a user is no word of it"), "a user is no word of it"),
    ],
)
async def test_a_failed_check_is_reported_without_names_of_users(
    error: Exception, masked: str
) -> None:
    [finding] = await probe().run("memory", failing(error))
    assert finding.level is Level.WARNING
    assert finding.sentence == f"could not be checked: {type(error).__name__}: {masked}"


async def test_a_missing_right_is_told_without_the_name_of_the_user() -> None:
    denied = NoPermissionError(DENIED, status_code="NOPERM")
    [finding] = await probe().run("memory", failing(denied))
    wanted = "NoPermissionError: User *** has no permissions to run the 'info' command"
    assert finding.sentence == f"a right is missing: {wanted}"
    assert "docs/deployment.md" in finding.advice


@pytest.mark.parametrize(
    ("error", "level", "is_gone"),
    [
        (redis.ResponseError("unknown command"), Level.WARNING, False),
        (asyncpg.InsufficientPrivilegeError("denied"), Level.DANGER, False),
        (NoPermissionError(DENIED, status_code="NOPERM"), Level.DANGER, False),
        (redis.ConnectionError("refused"), Level.DANGER, True),
        (TimeoutError(), Level.DANGER, True),
        (asyncpg.CannotConnectNowError("starting up"), Level.DANGER, True),
        (SettingsError("a wrong password"), Level.DANGER, True),
    ],
)
async def test_a_lost_server_is_not_checked_again(
    error: Exception, level: Level, is_gone: bool
) -> None:
    redis_probe = probe()
    [finding] = await redis_probe.run("memory", failing(error))
    assert (finding.level, redis_probe.is_gone) == (level, is_gone)
    found = await redis_probe.run("memory", succeeding())
    gone = Finding(
        Level.WARNING, "memory", "not checked, as Redis does not serve", "repair Redis first"
    )
    assert found == [gone if is_gone else FINE]


async def test_a_settings_error_after_an_answer_does_not_end_the_checks() -> None:
    redis_probe = probe()
    await redis_probe.run("memory", succeeding())
    await redis_probe.run("tables", failing(SettingsError("SELECT is lacking")))
    assert await redis_probe.run("memory", succeeding()) == [FINE]


async def test_errors_that_do_not_come_from_the_server_are_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        await probe().run("memory", failing(ZeroDivisionError()))
