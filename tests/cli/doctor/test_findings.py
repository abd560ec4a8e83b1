"""Findings about versions, clocks and consumers that a test server cannot have."""

import pytest

from statsd.cli.doctor import clocks, redis, stream
from statsd.cli.doctor.stream import ConsumerInfo
from statsd.observability.status import duration
from statsd.servers import postgres_fitness, redis_fitness
from statsd.servers.finding import Level
from statsd.urls import credentials


@pytest.mark.parametrize(
    ("info", "level", "sentence"),
    [
        ({"redis_version": "6.2.14"}, Level.WARNING, "version 6.2.14"),
        ({"redis_version": "7.0.0"}, Level.OK, "version 7.0.0"),
        ({"redis_version": "10.0.1"}, Level.OK, "version 10.0.1"),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.0"}, Level.OK, "Valkey 8.1.0"),
    ],
)
def test_an_old_redis_is_a_warning(info: dict[str, str], level: Level, sentence: str) -> None:
    finding = redis_fitness.version(info)
    assert (finding.level, finding.sentence) == (level, sentence)


@pytest.mark.parametrize("version", ["8.2.0", "8.2.1", "8.2.2"])
def test_an_unsafe_xackdel_is_not_used_and_is_a_warning(version: str) -> None:
    finding = redis.strategy(version, knows=True)
    assert finding.level is Level.WARNING
    assert finding.sentence.startswith("XACK and XDEL, as ")
    assert "8.2.3" in finding.advice


@pytest.mark.parametrize(
    ("version", "knows", "sentence"),
    [("8.2.3", True, "XACKDEL"), ("8.4.0", True, "XACKDEL"), ("7.2.4", False, "XACK and XDEL")],
)
def test_other_servers_use_xackdel_if_they_know_it(
    version: str, knows: bool, sentence: str
) -> None:
    finding = redis.strategy(version, knows=knows)
    assert (finding.level, finding.sentence) == (Level.OK, sentence)


@pytest.mark.parametrize(
    ("major", "level"), [(14, Level.WARNING), (15, Level.OK), (18, Level.OK), (19, Level.OK)]
)
def test_an_old_postgresql_is_a_warning(major: int, level: Level) -> None:
    finding = postgres_fitness.version(f"{major}.3", major)
    assert finding.level is level
    assert finding.sentence.startswith(f"version {major}.3")
    assert ("not tested" in finding.sentence) == (major > 18)


@pytest.mark.parametrize(
    ("ahead", "level", "sentence"),
    [
        (0.9, Level.OK, "it agrees with that of Redis"),
        (-0.9, Level.OK, "it agrees with that of Redis"),
        (1.5, Level.WARNING, "1.5 s ahead of that of Redis"),
        (-61.0, Level.WARNING, "61.0 s behind that of Redis"),
    ],
)
def test_a_clock_more_than_a_second_off_is_a_warning(
    ahead: float, level: Level, sentence: str
) -> None:
    finding = clocks.judge("clock", ahead)
    assert (finding.level, finding.sentence) == (level, sentence)


def test_a_finding_names_only_a_few_of_many_dead_consumers() -> None:
    living = ConsumerInfo("living", pending=7, idle=9000, is_alive=True)
    brief = ConsumerInfo("brief", pending=0, idle=3599, is_alive=False)
    assert stream.judge_consumers([living, brief]).level is Level.OK
    silent = [ConsumerInfo(f"host-{i}", pending=0, idle=7200, is_alive=False) for i in range(7)]
    finding = stream.judge_consumers([living, *silent, brief])
    assert finding.level is Level.WARNING
    assert finding.sentence.startswith("7 dead, and not taken over: host-0 ")
    assert "host-4 (0 pending, silent for 2 h) and 2 more" in finding.sentence


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0.4 s"), (119, "119.0 s"), (120, "2 min"), (7200, "2 h"), (20_000 * 86_400, "20000 d")],
)
def test_a_duration_is_shown_in_its_largest_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://cache:6379/0", set()),
        ("redis://:p%40ss@cache", {"p@ss"}),
        ("unix:///run/redis.sock?username=bob&password=a%20b", {"bob", "a b"}),
        ("postgresql+asyncpg://web:secret@db/ctfd?user=other", {"web", "secret", "other"}),
    ],
)
def test_the_credentials_of_a_url_are_found(url: str, words: set[str]) -> None:
    assert set(credentials(url)) == words
