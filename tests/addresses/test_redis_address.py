"""REDIS_URL: one parser for the daemon and for the web half."""

import logging
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
import redis.asyncio
from hypothesis import given, strategies as st

from statsd.addresses.parts import ParameterError
from statsd.addresses.redis import OURS, WANT, parse
from statsd.addresses.redis_clients import (
    ANSWER_TIMEOUT,
    CONNECT_TIMEOUT,
    async_client,
    sync_client,
)
from statsd.errors import SettingsError
from tests.support.certificates import Authority

PLAIN = {"username": None, "password": None, "host": "cache", "port": 6379, "db": 0}
TLS = {
    "ssl": True,
    "ssl_cert_reqs": "required",
    "ssl_check_hostname": True,
    "ssl_password": None,
    "ssl_ca_certs": None,
    "ssl_certfile": None,
    "ssl_keyfile": None,
}
LOOSE = {"ssl_cert_reqs": "none", "ssl_check_hostname": False}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://cache", PLAIN),
        ("redis://cache:6379/", PLAIN),
        ("redis://cache/3", PLAIN | {"db": 3}),
        ("redis://cache?db=3", PLAIN | {"db": 3}),
        ("redis://", PLAIN | {"host": "localhost"}),
        ("redis://u:s%40x@cache", PLAIN | {"username": "u", "password": "s@x"}),
        ("redis://:s@cache", PLAIN | {"password": "s"}),
        ("redis://cache?username=u&password=s", PLAIN | {"username": "u", "password": "s"}),
        ("redis://[::1]:7000", PLAIN | {"host": "::1", "port": 7000}),
        ("rediss://cache", PLAIN | TLS),
        ("rediss://cache?ssl_cert_reqs=none", PLAIN | TLS | LOOSE),
        ("rediss://cache?ssl_cert_reqs=CERT_NONE", PLAIN | TLS | LOOSE),
        ("rediss://cache?ssl_check_hostname=no", PLAIN | TLS | {"ssl_check_hostname": False}),
        (
            "unix://u:s@/run/redis.sock?db=1",
            {"username": "u", "password": "s", "db": 1, "unix_socket_path": "/run/redis.sock"},
        ),
    ],
)
def test_forms_become_options_of_the_client(text: str, expected: dict[str, Any]) -> None:
    assert parse(text).options == expected


def test_sentinels_have_a_service_and_a_login_of_their_own() -> None:
    found = parse(
        "redis+sentinel://u:p@one:1,two,[::1]:3/main/2?sentinel_username=s&sentinel_password=q"
    )
    assert found.sentinels == (("one", 1), ("two", 26379), ("::1", 3))
    assert (found.service, found.options["db"], found.options["password"]) == ("main", 2, "p")
    assert found.sentinel_options == {"username": "s", "password": "q"}


REFUSED = {
    "": "not an address",
    "cache": "not an address",
    "cache:6379": "not an address",
    "http://cache:6379": "not an address",
    "REDIS://cache": "not an address",
    "redis://cache:port": "port",
    "redis://cache:99999": "port",
    "redis://cache/zero": "number of a database",
    "redis://cache?db=-1": "number of a database",
    "redis://a,b": "redis+sentinel://",
    "redis://a..b": "host",
    "redis://u:p@x@cache": "%40",
    "redis://:a#b@cache": "%23",
    "redis://cache?ssl_cert_reqs=none": "rediss://",
    "rediss://cache?ssl_cert_reqs=never": "want none, optional, required",
    "rediss://cache?ssl_check_hostname=maybe": "ssl_check_hostname",
    "rediss://cache?ssl_ca_certs=/no/ca.pem": "/no/ca.pem",
    "rediss://cache?ssl_keyfile=/no/key.pem": "ssl_certfile",
    "redis://cache?socket_timeot=1": "is socket_timeout meant",
    "redis://cache?unknown=1": "there are client_name",
    "redis+sentinel://one:1": "service",
    "redis+sentinel://one:1,/main": "host",
    "redis+sentinel:///main": "host",
    "unix://": "socket",
    "unix://run/redis.sock": "socket",
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_a_wrong_address_is_refused_with_the_form_that_is_right(text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the texts follow
        parse(text)
    assert REFUSED[text] in str(caught.value)
    assert isinstance(caught.value, ParameterError) or WANT in str(caught.value)


@given(st.text(max_size=40), st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_no_text_makes_another_error_and_no_message_has_the_password(
    text: str, secret: str
) -> None:
    secret = f"geheim{quote(secret, safe='')}"
    schemes = ("redis://", "unix://", "redis+sentinel://")
    for address in (text, *(f"{scheme}:{secret}@{text}" for scheme in schemes)):
        try:
            parse(address)
        except ValueError as error:
            assert secret not in str(error)  # noqa: PT017 - it may also be accepted


@pytest.mark.parametrize("name", OURS)
def test_what_the_code_relies_on_is_not_overridden(name: str) -> None:
    assert parse(f"redis://cache?{name}=0.001") == parse("redis://cache")


@pytest.mark.parametrize("make", [sync_client, async_client])
@pytest.mark.parametrize(
    "url", ["redis://cache", "rediss://cache", "redis+sentinel://one,two/main"]
)
def test_every_client_takes_a_bounded_time(make: Any, url: str) -> None:
    found = make(url, {}).connection_pool.connection_kwargs
    assert (found["socket_timeout"], found["socket_connect_timeout"]) == (
        ANSWER_TIMEOUT,
        CONNECT_TIMEOUT,
    )
    assert found["retry"].get_retries() == 0
    assert found["health_check_interval"] > 0
    assert found["socket_keepalive_options"][socket.TCP_USER_TIMEOUT] > 0


@pytest.mark.parametrize("make", [sync_client, async_client])
def test_an_invalid_url_of_the_caller_is_an_error(make: Any) -> None:
    with pytest.raises(SettingsError, match="REDIS_URL: "):
        make("redis://cache?db=x", {})


@pytest.mark.parametrize("value", ["redis://cache?db=x", "nonsense", "rediss://h?ssl_ca_certs=/no"])
def test_an_invalid_variable_is_logged_and_the_calls_fail(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    monkeypatch.setenv("REDIS_URL", value)
    with caplog.at_level(logging.ERROR, "statsd.client"):
        client = sync_client(None, {})
    assert caplog.messages[0].startswith("REDIS_URL: ")
    with pytest.raises(redis.ConnectionError):
        client.ping()


def test_files_of_tls_are_read_at_once(authority: Authority, tmp_path: Path) -> None:
    one, other = authority.client("one"), authority.client("other")
    good = f"ssl_ca_certs={authority.certificate}&ssl_certfile={one.certificate}"
    assert parse(f"rediss://cache?{good}&ssl_keyfile={one.key}").options["ssl_keyfile"] == str(
        one.key
    )
    with pytest.raises(ValueError, match="do not fit together"):
        parse(f"rediss://cache?{good}&ssl_keyfile={other.key}")
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(ValueError, match="has no certificates"):
        parse(f"rediss://cache?ssl_ca_certs={tmp_path}/ca.pem")
