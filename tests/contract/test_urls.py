"""Passwords in texts and addresses are masked."""

import json
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, example, given, strategies as st

from statsd.urls import masked, without_password

passwords = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=30
)


@given(passwords, st.sampled_from(["postgresql", "postgresql+asyncpg", "redis", "rediss"]))
def test_only_the_quoted_password_is_masked(password: str, scheme: str) -> None:
    for quoted in (quote(password, safe=""), quote_plus(password)):
        text = f"see {scheme}://web:{quoted}@h:1234/db?x=y#z and mail bob@example.org: soon"
        assert masked(text) == text.replace(f":{quoted}@", ":***@")


@given(passwords)
@example("two words")
def test_a_password_is_masked_in_an_address(password: str) -> None:
    quoted = quote(password, safe="")
    for text in (f"postgresql://web:{quoted}@h/db", f"redis+sentinel://web:{quoted}@h,i:1/s/0"):
        assert without_password(text) == masked(text) == text.replace(f":{quoted}@", ":***@")


@given(passwords)
def test_a_password_without_a_user_is_masked(password: str) -> None:
    assert masked(f"redis://:{quote(password, safe='')}@h:6379/0") == "redis://:***@h:6379/0"


@pytest.mark.parametrize("password", ["p@ss", "@", "p:ss", "p'ss", "p%zz"])
def test_an_unquoted_password_of_redis_is_masked(password: str) -> None:
    assert masked(f"redis://:{password}@h:6379/0") == "redis://:***@h:6379/0"


@given(passwords, st.sampled_from(["password", "sslpassword", "ssl_password", "sentinel_password"]))
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
