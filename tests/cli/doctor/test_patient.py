"""What is said of a check that could not be made."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
import redis
from redis.exceptions import NoPermissionError

from statsd.cli.doctor.finding import Finding, Level
from statsd.cli.doctor.patient import Patient
from statsd.errors import MissingTableError, SettingsError

DENIED = "User bob has no permissions to run the 'info' command"
FINE = Finding(Level.OK, "memory", "there is some")


async def failing(error: Exception) -> AsyncIterator[Finding]:
    yield FINE
    raise error


async def succeeding() -> AsyncIterator[Finding]:
    yield FINE


def patient() -> Patient:
    return Patient("Redis", ["web", "p@ss!"], patience=5)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            NoPermissionError(DENIED),
            "User *** has no permissions to run the 'info' command",
        ),
        (redis.ResponseError('no such user "bob"'), "no such user ***"),
        (redis.ResponseError("no such user: web."), "no such user: ***"),
        (redis.ResponseError("web and p@ss! and webs"), "*** and *** and webs"),
        (redis.ResponseError("a user is no word of it"), "a user is no word of it"),
    ],
)
async def test_what_cannot_be_looked_at_is_told_without_names(error: Exception, told: str) -> None:
    [finding] = await patient().examine("memory", failing(error))
    assert finding.level is Level.WARNING
    assert finding.sentence == f"could not be looked at: {type(error).__name__}: {told}"


@pytest.mark.parametrize(
    ("error", "level", "is_gone"),
    [
        (redis.ResponseError("unknown command"), Level.WARNING, False),
        (asyncpg.InsufficientPrivilegeError("denied"), Level.WARNING, False),
        (redis.ConnectionError("refused"), Level.DANGER, True),
        (TimeoutError(), Level.DANGER, True),
        (asyncpg.CannotConnectNowError("starting up"), Level.DANGER, True),
        (MissingTableError("no table"), Level.DANGER, False),
        (SettingsError("a wrong password"), Level.DANGER, True),
    ],
)
async def test_a_server_that_is_gone_is_not_asked_again(
    error: Exception, level: Level, is_gone: bool
) -> None:
    asked = patient()
    [finding] = await asked.examine("memory", failing(error))
    assert (finding.level, asked.is_gone) == (level, is_gone)
    found = await asked.examine("memory", succeeding())
    gone = Finding(
        Level.WARNING, "memory", "not looked at, as Redis does not serve", "mend Redis first"
    )
    assert found == [gone if is_gone else FINE]


async def test_who_has_answered_is_not_leased_for_gone_over_a_setting() -> None:
    asked = patient()
    await asked.examine("memory", succeeding())
    await asked.examine("tables", failing(SettingsError("SELECT is lacking")))
    assert await asked.examine("memory", succeeding()) == [FINE]


async def test_what_is_no_trouble_of_a_server_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        await patient().examine("memory", failing(ZeroDivisionError()))
