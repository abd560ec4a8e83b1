"""Settings: names, defaults, limits, masked passwords, misspelt variables."""

import re
from typing import Any

import pytest

from statsd.errors import SettingsError
from statsd.settings import Settings, declared, load, table, unknown

DATABASE = {"DATABASE_URL": "postgresql://web:secret@db/ctfd"}

DEFAULTS = {
    "redis_url": "redis://cache:6379",
    "enabled": True,
    "fallback": True,
    "exports": True,
    "skip_cold_start": False,
    "consumer_suffix": "",
    "batch_size": 500,
    "block": 1.0,
    "concurrency": 2,
    "export_share": 0.75,
    "pool_size": 5,
    "statement_timeout": 50.0,
    "prepared_statements": True,
    "lease": 30.0,
    "audit_interval": 5.0,
    "retry_delays": (1.0, 5.0, 30.0, 120.0),
    "drain_deadline": 8.0,
    "docker_engines": (),
    "containers_interval": 15.0,
    "http_port": 9464,
    "http_host": "0.0.0.0",
    "heartbeat_interval": 30.0,
    "slow_job": 1.0,
    "dead_letters": 10_000,
    "log_level": "INFO",
    "log_format": "json",
}

WRONG = [
    ("DATABASE_URL", "mysql://web:secret@db/ctfd", "postgresql://user:password@host"),
    ("DATABASE_URL", "postgresql://db", "postgresql://user:password@host"),
    ("REDIS_URL", "http://cache", "redis://host:6379/0"),
    ("BACKGROUND_STATS_ENABLED", "y", "0, 1, true, false, yes, no, on or off"),
    ("BACKGROUND_STATS_FALLBACK", "2", "0, 1, true"),
    ("STATSD_EXPORTS", "2", "0, 1, true"),
    ("SKIP_COLD_START", "enabled", "0, 1, true"),
    ("STATSD_CONSUMER_SUFFIX", "a b", "A-Za-z0-9_.-"),
    ("STATSD_CONSUMER_SUFFIX", "a\n", "A-Za-z0-9_.-"),
    ("STATSD_CONSUMER_SUFFIX", "x" * 65, "64"),
    ("STATSD_BATCH_SIZE", "0", "greater than or equal to 1"),
    ("STATSD_BATCH_SIZE", "10001", "less than or equal to 10000"),
    ("STATSD_BATCH_SIZE", "many", "integer"),
    ("STATSD_BATCH_SIZE", "1.5", "integer"),
    ("STATSD_BLOCK", "0", "greater than or equal to 0.05"),
    ("STATSD_BLOCK", "31", "less than or equal to 30"),
    ("STATSD_BLOCK", "1s", "number"),
    ("STATSD_BLOCK", "nan", "30"),
    ("STATSD_BLOCK", "inf", "30"),
    ("STATSD_CONCURRENCY", "0", "greater than or equal to 1"),
    ("STATSD_CONCURRENCY", "65", "less than or equal to 64"),
    ("STATSD_EXPORT_SHARE", "0", "greater than or equal to 0.05"),
    ("STATSD_EXPORT_SHARE", "1.1", "less than or equal to 1"),
    ("STATSD_POOL_SIZE", "3", "greater than or equal to 4"),
    ("STATSD_POOL_SIZE", "101", "less than or equal to 100"),
    ("STATSD_STATEMENT_TIMEOUT", "0.9", "greater than or equal to 1"),
    ("STATSD_STATEMENT_TIMEOUT", "60", "less than or equal to 59"),
    ("STATSD_PREPARED_STATEMENTS", "of", "0, 1, true"),
    ("STATSD_LEASE", "0", "greater than or equal to 1"),
    ("STATSD_LEASE", "601", "less than or equal to 600"),
    ("STATSD_AUDIT_INTERVAL", "-1", "greater than or equal to 0"),
    ("STATSD_AUDIT_INTERVAL", "3601", "less than or equal to 3600"),
    ("STATSD_RETRY_DELAYS", "1,,2", "with commas between them"),
    ("STATSD_RETRY_DELAYS", "1;2", "with commas between them"),
    ("STATSD_RETRY_DELAYS", "1,0", "positive numbers"),
    ("STATSD_RETRY_DELAYS", "1,-1", "positive numbers"),
    ("STATSD_RETRY_DELAYS", "3601", "none above 3600"),
    ("STATSD_RETRY_DELAYS", "inf", "none above 3600"),
    ("STATSD_RETRY_DELAYS", "nan", "none above 3600"),
    ("STATSD_RETRY_DELAYS", ",".join(["1"] * 21), "1 to 20 positive numbers"),
    ("STATSD_DRAIN_DEADLINE", "0", "greater than or equal to 0.1"),
    ("STATSD_DRAIN_DEADLINE", "601", "less than or equal to 600"),
    ("STATSD_DOCKER_ENGINES", "docker.sock", "want unix:///var/run/docker.sock or tcp://"),
    ("STATSD_DOCKER_ENGINES", "unix:///a,unix://", "want unix:///var/run/docker.sock"),
    *[
        ("STATSD_DOCKER_ENGINES", address, "want unix:///var/run/docker.sock or tcp://host:2375")
        for address in (
            "ssh://host:22",
            "unix://host/path",
            "tcp://host",
            "tcp://:2375",
            "tcp://host:99999",
            "tcp://host:abc",
            "tcp://[::1",
            "tcp://a..b:1",
            "tcp://host:1/path",
            "https://user:hunter2@host:1",
        )
    ],
    ("STATSD_CONTAINERS_INTERVAL", "-1", "greater than or equal to 0"),
    ("STATSD_CONTAINERS_INTERVAL", "3601", "less than or equal to 3600"),
    ("STATSD_HTTP_PORT", "-1", "greater than or equal to 0"),
    ("STATSD_HTTP_PORT", "65536", "less than or equal to 65535"),
    ("STATSD_HTTP_HOST", "a b", "should match pattern"),
    ("STATSD_HEARTBEAT_INTERVAL", "-1", "greater than or equal to 0"),
    ("STATSD_HEARTBEAT_INTERVAL", "3601", "less than or equal to 3600"),
    ("STATSD_SLOW_JOB", "0", "greater than or equal to 0.001"),
    ("STATSD_SLOW_JOB", "61", "less than or equal to 60"),
    ("STATSD_DEAD_LETTERS", "0", "greater than or equal to 1"),
    ("STATSD_DEAD_LETTERS", "1000001", "less than or equal to 1000000"),
    ("STATSD_LOG_LEVEL", "TRACE", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
    ("STATSD_LOG_FORMAT", "xml", "'json' or 'text'"),
]

SECRET = "hunter2"  # noqa: S105 - must not be shown


def variables() -> list[str]:
    return [setting.variable for setting in declared()]


def refusal(environ: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as refused:
        load(environ)
    return str(refused.value)


def test_only_the_database_has_to_be_set() -> None:
    values = load(DATABASE).model_dump()
    assert values.pop("database_url") == "postgresql://web:secret@db/ctfd"
    assert values == DEFAULTS


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("REDIS_URL", "rediss://u:p@cache:6380/1", "redis_url", "rediss://u:p@cache:6380/1"),
        ("BACKGROUND_STATS_ENABLED", "0", "enabled", False),
        ("BACKGROUND_STATS_ENABLED", "False", "enabled", False),
        ("BACKGROUND_STATS_FALLBACK", "false", "fallback", False),
        ("SKIP_COLD_START", "TRUE", "skip_cold_start", True),
        ("SKIP_COLD_START", "Yes", "skip_cold_start", True),
        ("STATSD_EXPORTS", "off", "exports", False),
        ("STATSD_CONSUMER_SUFFIX", "a.b_c-1", "consumer_suffix", "a.b_c-1"),
        ("STATSD_BATCH_SIZE", "10000", "batch_size", 10_000),
        ("STATSD_BLOCK", "0.05", "block", 0.05),
        ("STATSD_CONCURRENCY", "1", "concurrency", 1),
        ("STATSD_POOL_SIZE", "100", "pool_size", 100),
        ("STATSD_STATEMENT_TIMEOUT", "59", "statement_timeout", 59.0),
        ("STATSD_PREPARED_STATEMENTS", "0", "prepared_statements", False),
        ("STATSD_LEASE", "600", "lease", 600.0),
        ("STATSD_RETRY_DELAYS", "0.5", "retry_delays", (0.5,)),
        ("STATSD_RETRY_DELAYS", " 1, 2.5 ,3600", "retry_delays", (1.0, 2.5, 3600.0)),
        ("STATSD_RETRY_DELAYS", ",".join(["1"] * 20), "retry_delays", (1.0,) * 20),
        ("STATSD_DRAIN_DEADLINE", "1.5", "drain_deadline", 1.5),
        (
            "STATSD_DOCKER_ENGINES",
            "unix:///a , tcp://b:1,",
            "docker_engines",
            ("unix:///a", "tcp://b:1"),
        ),
        ("STATSD_DOCKER_ENGINES", "unix:///a,unix:///a", "docker_engines", ("unix:///a",)),
        ("STATSD_CONTAINERS_INTERVAL", "0.5", "containers_interval", 0.5),
        ("STATSD_HTTP_PORT", "0", "http_port", 0),
        ("STATSD_HTTP_HOST", "127.0.0.1", "http_host", "127.0.0.1"),
        ("STATSD_DEAD_LETTERS", "1", "dead_letters", 1),
        ("STATSD_LOG_LEVEL", "ERROR", "log_level", "ERROR"),
        ("STATSD_LOG_FORMAT", "text", "log_format", "text"),
    ],
)
def test_a_variable_sets_its_setting(variable: str, text: str, name: str, value: object) -> None:
    found = getattr(load(DATABASE | {variable: text}), name)
    assert found == value
    assert type(found) is type(value)


def test_without_a_database_the_error_names_the_variable_and_its_form() -> None:
    message = refusal({})
    assert message.startswith("DATABASE_URL is not set.")
    assert "postgresql://user:password@host:5432/database" in message


@pytest.mark.parametrize(("variable", "text", "right"), WRONG)
def test_a_wrong_value_gives_one_line_with_the_variable_and_the_right_form(
    variable: str, text: str, right: str
) -> None:
    message = refusal(DATABASE | {variable: text})
    assert message.startswith((f"{variable}=", f"{variable}: "))
    assert right in message
    assert len(message.splitlines()) == 1


def test_every_setting_has_a_wrong_value() -> None:
    assert {variable for variable, _, _ in WRONG} == set(variables())


@pytest.mark.parametrize(("pool", "concurrency"), [("4", "2"), ("4", "10"), ("4", "64")])
def test_the_pool_must_have_room_beside_the_calculations(pool: str, concurrency: str) -> None:
    message = refusal(DATABASE | {"STATSD_POOL_SIZE": pool, "STATSD_CONCURRENCY": concurrency})
    assert message == (
        f"STATSD_POOL_SIZE ({pool}) must be greater than "
        f"STATSD_CONCURRENCY ({concurrency}) by 3 or more"
    )


def test_several_wrong_values_give_one_line_each() -> None:
    message = refusal({"STATSD_LEASE": "long", "SKIP_COLD_START": "y", "STATSD_BLOCK": "0"})
    started = [re.split("[= ]", line)[0] for line in message.splitlines()]
    assert sorted(started) == ["DATABASE_URL", "SKIP_COLD_START", "STATSD_BLOCK", "STATSD_LEASE"]


@pytest.mark.parametrize(
    "address",
    [
        f"mysql://web:{SECRET}@db/ctfd",
        f"mysql://web:{SECRET}/x@db/ctfd",
        f"postgresql://web:{SECRET}@db",
        f"postgresql://web:a/{SECRET}@db",
        f"postgresql://web:{SECRET} x@db",
        f"postgresql://web:a@{SECRET}:x@db/ctfd",
        f"postgresql://web:{SECRET}@db:port/ctfd",
        f"postgresql://db?user=web&password={SECRET}",
        f"host=db user=web password={SECRET} dbname=ctfd",
    ],
)
def test_a_password_is_not_shown_when_the_database_is_refused(address: str) -> None:
    assert SECRET not in refusal({"DATABASE_URL": address})


@pytest.mark.parametrize(
    "address",
    [
        f"http://:{SECRET}@cache:6379",
        f"http://user:{SECRET}@cache:6379/0",
        f"redis+tls://:a@{SECRET}@cache:6379",
        f"http://cache:6379?password={SECRET}",
    ],
)
def test_a_password_is_not_shown_when_redis_is_refused(address: str) -> None:
    assert SECRET not in refusal(DATABASE | {"REDIS_URL": address})
    assert SECRET not in refusal(DATABASE | {"STATSD_DOCKER_ENGINES": f"unix:///a,x{address}"})


@pytest.mark.parametrize("password", [SECRET, f"{SECRET}%20x", f"a%40{SECRET}%3A%2F%3F"])
def test_passwords_are_masked_in_the_list_of_settings(password: str) -> None:
    settings = load(
        {
            "DATABASE_URL": f"postgres://web:{password}@db/ctfd",
            "REDIS_URL": f"redis://:{password}@cache:6379/0",
        }
    )
    values = {setting.variable: setting.value for setting in declared(settings)}
    assert SECRET not in str(values)
    assert values["DATABASE_URL"] == "postgres://web:***@db/ctfd"
    assert values["REDIS_URL"] == "redis://:***@cache:6379/0"


def test_the_values_in_force_are_listed_in_the_form_of_variables() -> None:
    given = {
        "STATSD_BLOCK": "0.5",
        "SKIP_COLD_START": "true",
        "STATSD_BATCH_SIZE": "7",
        "STATSD_RETRY_DELAYS": "1, 2.50",
    }
    values = {setting.variable: setting.value for setting in declared(load(DATABASE | given))}
    assert {name: values[name] for name in given} == {
        "STATSD_BLOCK": "0.5",
        "SKIP_COLD_START": "1",
        "STATSD_BATCH_SIZE": "7",
        "STATSD_RETRY_DELAYS": "1,2.5",
    }


def test_only_the_given_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATSD_BATCH_SIZE", "7")
    assert load(DATABASE).batch_size == 500


def test_a_wrong_value_outside_the_given_environment_is_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STATSD_BLOCK", "long")
    assert load(DATABASE).block == 1.0


def test_a_variable_in_lower_case_is_another_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("statsd_block", "long")
    assert load(DATABASE | {"statsd_block": "long"}).block == 1.0


def test_other_variables_are_ignored() -> None:
    environ = DATABASE | {"PATH": "/bin", "STATSD_TEST_DESTROYS_DATA": "yes", "LEASE": "x"}
    assert load(environ) == load(DATABASE)


def test_settings_are_immutable() -> None:
    settings: Any = load(DATABASE)
    with pytest.raises(ValueError, match="frozen"):
        settings.batch_size = 1


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("STATSD_BATCHSIZE", "STATSD_BATCH_SIZE"),
        ("STATSD_CONCURENCY", "STATSD_CONCURRENCY"),
        ("STATSD_LOGLEVEL", "STATSD_LOG_LEVEL"),
        ("STATSD_POOLSIZE", "STATSD_POOL_SIZE"),
    ],
)
def test_a_misspelt_variable_is_reported_with_the_intended_one(misspelt: str, meant: str) -> None:
    assert list(unknown({misspelt: "1"})) == [f"{misspelt} is no setting; is {meant} meant?"]


def test_a_variable_unlike_any_setting_is_reported_without_a_guess() -> None:
    assert list(unknown({"STATSD_XYZZYQ": "1"})) == ["STATSD_XYZZYQ is no setting"]


def test_the_value_of_a_misspelt_variable_is_not_shown() -> None:
    assert SECRET not in "".join(unknown({"STATSD_PASSWORD": SECRET}))


def test_settings_and_other_variables_are_not_reported_as_misspelt() -> None:
    known = dict.fromkeys(variables(), "1")
    assert not list(unknown(known | {"PATH": "/bin", "STATSDIR": "x"}))


def test_the_table_has_a_row_for_every_setting() -> None:
    head, line, *rows = table().splitlines()
    assert head == "| variable | default | unit | meaning |"
    assert line == "|---|---|---|---|"
    assert [row.split("`")[1] for row in rows] == variables()
    assert len(rows) == len(Settings.model_fields)
    assert all(row.count("|") == 5 for row in rows)


def test_every_setting_has_a_sentence() -> None:
    for setting in declared():
        assert setting.sentence.endswith(".")
        assert setting.default or setting.variable in {
            "STATSD_CONSUMER_SUFFIX",
            "STATSD_DOCKER_ENGINES",
        }


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_variable_means_its_default(empty: str) -> None:
    """Compose writes empty ones."""
    environ = dict.fromkeys(variables(), empty) | DATABASE
    assert load(environ) == load(DATABASE)
    assert "DATABASE_URL is not set" in refusal({"DATABASE_URL": empty})
