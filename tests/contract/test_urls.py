"""URLs of the servers: accepted forms, conversion for asyncpg, masked passwords."""

import inspect
import json
from typing import Any
from urllib.parse import quote, quote_plus

import asyncpg
import pytest
from hypothesis import assume, example, given, strategies as st
from sqlalchemy.engine import URL, make_url

from statsd.urls import database_url, driver_options, masked, redis_url

passwords = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=30
)


def parsed(text: str) -> URL:
    return make_url(database_url(text))


def driver_arguments(text: str) -> dict[str, Any]:
    """Return the arguments that asyncpg's `connect` gets for an address."""
    return driver_options(parsed(text))


@pytest.mark.parametrize(
    "scheme",
    [
        "postgresql",
        "postgres",
        "postgresql+psycopg2",
        "postgresql+psycopg",
        "postgresql+asyncpg",
        "postgres+psycopg2",
    ],
)
def test_every_scheme_of_postgresql_becomes_the_scheme_of_asyncpg(scheme: str) -> None:
    url = parsed(f"{scheme}://web:secret@db.example:6432/ctfd")
    assert url == URL.create(
        "postgresql+asyncpg", "web", "secret", host="db.example", port=6432, database="ctfd"
    )


def test_an_address_in_the_right_form_stays_unchanged() -> None:
    once = database_url("postgres://u:p%40ss@h/db?sslmode=require&connect_timeout=5")
    assert database_url(once) == once


@given(passwords)
@example("p@ss:w/rd?#&=%+ x")
@example("100%41")
def test_a_password_may_have_any_characters(password: str) -> None:
    url = parsed(f"postgresql://web:{quote(password, safe='')}@h/db")
    assert (url.username, url.password, url.host, url.database) == ("web", password, "h", "db")


def test_sslmode_becomes_asyncpgs_ssl() -> None:
    assert driver_arguments("postgresql://u:p@h/db?sslmode=require")["ssl"] == "require"


def test_connect_timeout_becomes_asyncpgs_timeout_as_a_number() -> None:
    assert driver_arguments("postgresql://u:p@h/db?connect_timeout=5")["timeout"] == 5.0


def test_the_application_name_becomes_a_setting_of_the_server() -> None:
    arguments = driver_arguments("postgresql://u:p@h/db?application_name=stats%20daemon")
    assert arguments["server_settings"] == {"application_name": "stats daemon"}
    assert "application_name" not in arguments


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://web@/ctfd?host=/var/run/postgresql",
        "postgresql:///ctfd?user=web&host=%2Fvar%2Frun%2Fpostgresql",
        "postgresql+psycopg2://web@/ctfd?host=/var/run/postgresql&connect_timeout=3",
    ],
)
def test_the_host_in_the_query_may_be_the_folder_of_a_unix_socket(text: str) -> None:
    arguments = driver_arguments(text)
    assert arguments["host"] == "/var/run/postgresql"
    assert (arguments["user"], arguments["database"]) == ("web", "ctfd")


@pytest.mark.parametrize(
    "query",
    [
        "keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=5",
        "client_encoding=utf8",
        "gssencmode=disable",
        "fallback_application_name=web",
    ],
)
def test_parameters_that_asyncpg_does_not_need_are_dropped(query: str) -> None:
    assert driver_arguments(f"postgresql://u:p@h/db?{query}") == driver_arguments(
        "postgresql://u:p@h/db"
    )


@pytest.mark.parametrize(
    "parameter",
    [
        "sslmode=verify-full",
        "connect_timeout=5",
        "application_name=web",
        "target_session_attrs=read-write",
        "channel_binding=require",
        "sslrootcert=/etc/ssl/root.crt",
        "options=-c%20search_path%3Dctfd",
        "teleport=1",
    ],
)
def test_each_parameter_is_accepted_by_asyncpg_or_refused_with_its_name(
    parameter: str,
) -> None:
    accepted = set(inspect.signature(asyncpg.connect).parameters)
    # SQLAlchemy removes these before it connects.
    accepted |= {"prepared_statement_cache_size", "prepared_statement_name_func"}
    try:
        arguments = driver_arguments(f"postgresql://u:p@h/db?{parameter}")
    except ValueError as error:
        assert parameter.partition("=")[0] in str(error)  # noqa: PT017 - it may also be accepted
    else:
        assert set(arguments) <= accepted


def test_timeout_and_settings_are_converted_to_the_types_of_the_driver() -> None:
    text = "postgresql://u:p@h/db?sslmode=prefer&connect_timeout=2.5&application_name=web"
    assert driver_arguments(text) == {
        **driver_arguments("postgresql://u:p@h/db"),
        "ssl": "prefer",
        "timeout": 2.5,
        "server_settings": {"application_name": "web"},
    }


def test_an_address_without_a_query_gives_only_host_user_and_database() -> None:
    assert driver_arguments("postgresql://u:p@h:6432/db") == {
        "host": "h",
        "port": 6432,
        "user": "u",
        "password": "p",
        "database": "db",
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ctfd",
        "//h/db",
        "host=h dbname=db user=u",
        "mysql://u:p@h/db",
        "mysql+pymysql://u:p@h/db",
        "sqlite:///db",
        "http://h/db",
        "redis://h:6379/0",
        "postgresqll://h/db",
        "postgresql://u:p@h",
        "postgresql://u:p@h/",
        "postgresql://u:p@h:port/db",
        "postgresql://u:p@h:99999/db",
        "postgresql://u:p@one:5432,two:5432/db",
        "postgresql://u:p@ss@h/db",
    ],
)
def test_a_text_that_is_no_postgresql_address_is_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(ValueError, match="want postgresql://user:password@host:5432/database"):
        database_url(text)


@pytest.mark.parametrize("timeout", ["abc", "5s", "1&connect_timeout=2"])
def test_a_connect_timeout_that_is_not_a_number_is_refused(timeout: str) -> None:
    with pytest.raises(ValueError, match="timeout"):
        database_url(f"postgresql://u:p@h/db?connect_timeout={timeout}")


@pytest.mark.parametrize(
    "text",
    [
        "redis://cache:6379",
        "redis://cache",
        "redis://user:secret@cache:6379/3",
        "rediss://cache:6380/0?ssl_cert_reqs=none",
        "unix:///run/redis.sock?db=1",
    ],
)
def test_an_address_of_redis_stays_unchanged(text: str) -> None:
    assert redis_url(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cache",
        "cache:6379",
        "redis",
        "unix",
        "redis:cache",
        "http://cache:6379",
        "postgresql://h/db",
        "REDIS",
        "redis://cache:port",
        "redis://cache:99999",
    ],
)
def test_a_text_that_is_no_redis_address_is_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(ValueError, match="want redis://host:6379/0"):
        redis_url(text)


@given(passwords, st.sampled_from(["postgresql", "postgresql+asyncpg", "redis", "rediss"]))
def test_only_the_quoted_password_is_masked(password: str, scheme: str) -> None:
    for quoted in (quote(password, safe=""), quote_plus(password)):
        text = f"see {scheme}://web:{quoted}@h:1234/db?x=y#z and mail bob@example.org: soon"
        assert masked(text) == text.replace(f":{quoted}@", ":***@")


@given(passwords)
@example("two words")
def test_a_password_is_masked_in_the_converted_address(password: str) -> None:
    text = database_url(f"postgresql://web:{quote(password, safe='')}@h/db?sslmode=require")
    assert masked(text) == "postgresql+asyncpg://web:***@h/db?ssl=require"


@given(passwords)
def test_a_password_without_a_user_is_masked(password: str) -> None:
    assert masked(f"redis://:{quote(password, safe='')}@h:6379/0") == "redis://:***@h:6379/0"


@pytest.mark.parametrize("password", ["p@ss", "@", "p:ss", "p'ss", "p%zz"])
def test_an_unquoted_password_of_redis_is_masked(password: str) -> None:
    assert masked(f"redis://:{password}@h:6379/0") == "redis://:***@h:6379/0"


@given(passwords, st.sampled_from(["password", "sslpassword"]))
def test_a_password_in_the_query_is_masked(password: str, parameter: str) -> None:
    text = f"postgresql://h/db?user=web&{parameter}={quote(password, safe='')}&sslmode=require"
    assert masked(text) == f"postgresql://h/db?user=web&{parameter}=***&sslmode=require"


@given(passwords, st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=3))
def test_masked_json_is_still_json(password: str, more: dict[str, str]) -> None:
    quoted = quote(password, safe="")
    assume("@" not in str(more))
    urls = {
        "redis": f"redis://:{quoted}@h:6379/0",
        "postgres": f"postgresql://web:{quoted}@h/db",
        "query": f"postgresql://h/db?password={quoted}",
        "both": f"postgresql://web:{quoted}@h/db?sslpassword={quoted}&x=y",
    }
    values: dict[str, Any] = {"urls": urls, "message": "no '@'\nhere", "count": 1}
    shown = json.loads(masked(json.dumps(values | {"more": more})))
    assert shown == {
        **values,
        "more": more,
        "urls": {
            "redis": "redis://:***@h:6379/0",
            "postgres": "postgresql://web:***@h/db",
            "query": "postgresql://h/db?password=***",
            "both": "postgresql://web:***@h/db?sslpassword=***&x=y",
        },
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "redis://cache:6379",
        "postgresql://web@h/db",
        "http://[::1]:8000/health and bob@example.org",
        "10:30 bob@example.org",
        "batch accepted",
    ],
)
def test_a_text_without_passwords_stays_unchanged(text: str) -> None:
    assert masked(text) == text


def test_all_addresses_in_a_text_are_masked() -> None:
    text = "redis://a:one@h and postgresql://b:two@h/db,redis://:three@h"
    assert masked(text) == "redis://a:***@h and postgresql://b:***@h/db,redis://:***@h"
