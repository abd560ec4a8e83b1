"""DATABASE_URL: libpq's forms become arguments of asyncpg, or are refused with the right form."""

import inspect
import os
import ssl
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest
from hypothesis import example, given, strategies as st

from statsd.addresses import redis
from statsd.addresses.parts import ParameterError
from statsd.addresses.postgres import WANT, PostgresAddress, parse
from tests.support.certificates import Authority

passwords = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=30
)


def options(text: str) -> dict[str, object]:
    """The arguments of asyncpg, without those that are empty."""
    return {name: value for name, value in parse(text).options.items() if value}


@pytest.fixture(autouse=True)
def _no_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))


PLAIN = {
    "user": "u",
    "password": "p",
    "host": ["h"],
    "port": [5432],
    "database": "db",
    "target_session_attrs": "any",
}


@pytest.mark.parametrize(
    "scheme",
    ["postgresql", "postgres", "postgresql+psycopg2", "postgresql+asyncpg", "postgres+psycopg2"],
)
def test_every_scheme_of_postgresql_is_accepted(scheme: str) -> None:
    assert options(f"{scheme}://u:p@h/db") == PLAIN


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("u:p@h:6432/db", {"port": [6432]}),
        (" u:p@h/db ", {}),
        ("u:p@[::1]:6432/db", {"host": ["::1"], "port": [6432]}),
        ("u:p@/db?host=h", {}),
        ("/?user=u&password=p&host=h&dbname=db&port=5432", {}),
        ("u:p@h/db?connect_timeout=2.5", {"timeout": 2.5}),
        ("u:p@h/db?connect_timeout=0", {}),
        ("u:p@h/db?timeout=3", {"timeout": 3.0}),
        ("u:p@h/db?application_name=a%20b", {"server_settings": {"application_name": "a b"}}),
        (
            "u:p@h/db?options=-c%20search_path%3Dx",
            {"server_settings": {"options": "-c search_path=x"}},
        ),
        ("u:p@h/db?target_session_attrs=primary", {"target_session_attrs": "primary"}),
        ("u:p@h/db?sslmode=&application_name=", {}),
        ("u:p@h/db?channel_binding=prefer&client_encoding=utf8&gssencmode=disable", {}),
        ("u:p@h/db?fallback_application_name=x&load_balance_hosts=random", {}),
        (
            "u:p@h1:1,h2:2/db",
            {"host": ["h1", "h2"], "port": [1, 2], "target_session_attrs": "primary"},
        ),
        (
            "u:p@h1,h2/db?target_session_attrs=read-write",
            {"host": ["h1", "h2"], "port": [5432, 5432], "target_session_attrs": "read-write"},
        ),
        (
            "u:p@/db?host=h1,h2&port=1,2",
            {"host": ["h1", "h2"], "port": [1, 2], "target_session_attrs": "primary"},
        ),
        ("u:p@%2Fvar%2Frun%2Fpostgresql/db", {"host": ["/var/run/postgresql"]}),
        (
            "u:p@%2Fvar%2Frun%2Fpostgresql:6432/db",
            {"host": ["/var/run/postgresql"], "port": [6432]},
        ),
        ("u:p@/db?host=/var/run/postgresql", {"host": ["/var/run/postgresql"]}),
    ],
)
def test_the_forms_of_libpq_become_arguments(rest: str, expected: dict[str, object]) -> None:
    found = options(f"{' ' if rest[0] == ' ' else ''}postgresql://{rest.lstrip()}")
    assert found == PLAIN | expected
    assert set(found) <= set(inspect.signature(asyncpg.connect).parameters)


@given(passwords)
@example("p@ss:w/rd?#&=%+ x")
@example("100%41")
def test_a_password_may_have_any_characters(password: str) -> None:
    text = f"postgresql://web:{quote(password, safe='')}@h/db"
    assert (options(text)["password"], options(text)["user"]) == (password, "web")


def test_keepalives_are_kept_for_the_socket() -> None:
    text = "postgresql://u@h/db?keepalives_idle=30&keepalives_count=2&tcp_user_timeout=9000"
    assert parse(text).keepalives == {
        "keepalives_idle": 30,
        "keepalives_count": 2,
        "tcp_user_timeout": 9000,
    }


REFUSED = {
    "": "no",
    "ctfd": "not a URL",
    "//h/db": "not a URL",
    "host=h dbname=db user=u": "not a URL",
    "mysql://u:p@h/db": "scheme",
    "redis://h:6379/0": "scheme",
    "postgresqll://h/db": "scheme",
    "postgresql://u:p@h": "database's name",
    "postgresql://u:p@h/": "database's name",
    "postgresql://u:p@h:port/db": "port",
    "postgresql://u:p@h:99999/db": "port",
    "postgresql://u:p@h:0/db": "port",
    "postgresql://u:p@h:+1/db": "port",
    "postgresql://u:p@ss@h/db": "%40",
    "postgresql://u:p#w@h/db": "%23",
    "postgresql://u:p@h..x/db": "host",
    f"postgresql://u:p@{'x' * 64}/db": "host",
    "postgresql://u:p@h x/db": "host",
    "postgresql://u:p@[::1/db": "host is not valid",
    "postgresql://u:p@h1,h2,h3/db?port=1,2": "ports",
    "postgresql://u:p@h/db?port=abc": "port",
    "postgresql://u:p@h/db?sslmode=no-verify": "sslmode='no-verify': want disable, allow",
    "postgresql://u:p@h/db?sslmode=required": "want disable, allow, prefer, require",
    "postgresql://u:p@h/db?sslmode=true": "want disable",
    "postgresql://u:p@h/db?sslmode=REQUIRE": "want disable",
    "postgresql://u:p@h/db?ssl=maybe": "ssl='maybe'",
    "postgresql://u:p@h/db?target_session_attrs=readwrite": "want any, read-write, primary",
    "postgresql://u:p@h/db?target_session_attrs=standby": "want any, read-write, primary",
    "postgresql://u:p@h/db?connect_timeout=abc": "connect_timeout='abc'",
    "postgresql://u:p@h/db?connect_timeout=5s": "connect_timeout='5s'",
    "postgresql://u:p@h/db?connect_timeout=-1": "connect_timeout='-1'",
    "postgresql://u:p@h/db?connect_timeout=inf": "connect_timeout='inf'",
    "postgresql://u:p@h/db?connect_timeout=1&connect_timeout=2": "twice",
    "postgresql://u:p@h/db?keepalives_idle=soon": "keepalives_idle='soon'",
    "postgresql://u:p@h/db?sslmod=require": "is sslmode meant",
    "postgresql://u:p@h/db?teleport=1": "is port meant",
    "postgresql://u:p@h/db?service=x": "there are application_name",
    "postgresql://u:p@h/db?keepalives_idle=99999999999": "want a number",
    "postgresql://u:p@h/db?sslmode=require&sslrootcert=system": "verify-full",
    "postgresql://u:p@h/db?sslmode": "name=value",
    "postgresql://u:p@h/db?channel_binding=require": "channel_binding='require'",
    "postgresql://u:p@h/db?gssencmode=require": "gssencmode='require'",
    "postgresql://u:p@h/db?client_encoding=latin1": "client_encoding='latin1'",
    "postgresql://u:p@h/db?sslmode=verify-full": "sslrootcert=",
    "postgresql://u:p@h/db?sslmode=verify-ca": "sslrootcert=",
    "postgresql://u:p@h/db?sslmode=require&sslrootcert=/no/ca.pem": "/no/ca.pem",
    "postgresql://u:p@h/db?sslmode=require&sslrootcert=/": "cannot be read",
    "postgresql://u:p@h/db?sslmode=require&sslcert=/no/c.pem": "/no/c.pem",
    "postgresql://u:p@h/db?sslmode=require&sslkey=/no/k.pem": "sslkey",
    "postgresql://u:p@h/db?passfile=/no/passfile": "/no/passfile",
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_a_wrong_address_is_refused_with_the_form_that_is_right(text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the texts follow
        parse(text)
    assert REFUSED[text] in str(caught.value) or not text
    assert "p@ss" not in str(caught.value)
    assert isinstance(caught.value, ParameterError) or WANT in str(caught.value)


@given(st.text(max_size=40), passwords)
def test_no_text_makes_another_error_and_no_message_has_the_password(
    text: str, secret: str
) -> None:
    secret = f"geheim{quote(secret, safe='')}"
    for address in (text, f"postgresql://{text}", f"postgresql://u:{secret}@{text}"):
        try:
            parse(address)
        except ValueError as error:
            assert secret not in str(error)  # noqa: PT017 - it may also be accepted


SECRETS = (
    "p[s3cret]w",
    "s3cret\u2100x",
    "s3cret\uff1fx",
    "s3cret?s3cret==",
    "s3cret/s3cret",
    "s3cret#x",
)


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("scheme", ["postgresql", "redis", "redis+sentinel"])
def test_a_password_that_was_not_encoded_is_not_told(scheme: str, secret: str) -> None:
    for host in ("h", "h:1", "h,i:x"):
        try:
            (parse if scheme == "postgresql" else redis.parse)(f"{scheme}://u:{secret}@{host}/db")
        except ValueError as error:
            assert "s3cret" not in str(error)  # noqa: PT017 - it may also be accepted


def test_a_password_in_the_query_is_kept_as_libpq_does() -> None:
    assert options("postgresql://h/db?user=u&password=a+b%20c")["password"] == "a+b c"  # noqa: S105


@pytest.mark.parametrize("host", ["::1", "[::1]", "[::1]:5432"])
def test_an_ipv6_address_may_stand_in_the_query(host: str) -> None:
    assert options(f"postgresql://u:p@/db?host={host}") == PLAIN | {"host": ["::1"]}


# --- encryption


def modes(address: PostgresAddress) -> list[object]:
    """What is tried: False, or whether the certificate and the host's name are checked."""
    return [
        each and (each.verify_mode == ssl.CERT_REQUIRED, each.check_hostname)  # type: ignore[union-attr]
        for each in address.encryption
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [(False, False), False]),
        ("sslmode=prefer", [(False, False), False]),
        ("sslmode=allow", [False, (False, False)]),
        ("sslmode=disable", [False]),
        ("ssl=false", [False]),
        ("sslmode=require", [(False, False)]),
        ("ssl=true", [(False, False)]),
        ("sslmode=require&sslrootcert={ca}", [(True, False)]),
        ("sslmode=verify-ca&sslrootcert={ca}", [(True, False)]),
        ("sslmode=verify-full&sslrootcert={ca}", [(True, True)]),
        ("sslmode=verify-full&sslrootcert=system", [(True, True)]),
        ("sslrootcert=system", [(True, True)]),
        ("ssl=verify-full&sslrootcert={ca}", [(True, True)]),
    ],
)
def test_modes_mean_what_libpq_means(authority: Authority, query: str, expected: object) -> None:
    text = f"postgresql://u:p@h/db?{query.format(ca=authority.certificate)}"
    assert modes(parse(text)) == expected


def test_a_client_certificate_is_loaded(authority: Authority) -> None:
    client = authority.client("statsd")
    query = f"sslmode=require&sslcert={client.certificate}&sslkey={client.key}"
    assert len(parse(f"postgresql://u:p@h/db?{query}").encryption) == 1


def test_a_key_of_another_certificate_is_refused(authority: Authority) -> None:
    one, other = authority.client("one"), authority.client("other")
    query = f"sslmode=require&sslcert={one.certificate}&sslkey={other.key}"
    with pytest.raises(ValueError, match=r"sslcert and sslkey: .* do not fit together"):
        parse(f"postgresql://u:p@h/db?{query}")


def test_a_file_without_certificates_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(ValueError, match=r"sslrootcert: .* has no certificates"):
        parse(f"postgresql://u:p@h/db?sslmode=verify-ca&sslrootcert={tmp_path}/ca.pem")


def test_the_ca_in_the_home_directory_is_used(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql/root.crt").write_text(Path(authority.certificate).read_text())
    assert modes(parse("postgresql://u:p@h/db?sslmode=verify-full")) == [(True, True)]


@pytest.mark.parametrize("home", ["/no/such/home", "/dev/null", "/proc/1/root/none", ""])
def test_a_home_directory_that_cannot_be_read_is_not_needed(
    monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    monkeypatch.setenv("HOME", home)
    found = parse("postgresql://u@h/db").options
    assert found["password"] == os.environ.get("PGPASSWORD", "")  # so that no file is looked for
