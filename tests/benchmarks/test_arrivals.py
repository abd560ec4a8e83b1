"""The arrival of solves in arrays, and the sizes of values."""

import orjson
import pytest

from benchmarks.arrivals import entries_in, solves_of

NAMES = ("ada", "}{", 'x","user_id":7,"solves":9', "{")


@pytest.fixture
def array() -> bytes:
    entries = [
        {"rank": i, "solves": 10 - i, "user_id": i, "name": name, "email": None}
        for i, name in enumerate(NAMES, start=1)
    ]
    return orjson.dumps(entries)


def test_solves_are_found_whatever_the_names_are(array: bytes) -> None:
    assert [solves_of(array, user) for user in (1, 2, 3, 4)] == [9, 8, 7, 6]
    assert solves_of(array, 7) == 0
    assert solves_of(b"[]", 1) == 0


def test_the_order_of_fields_does_not_matter() -> None:
    array = orjson.dumps([{"name": "ada", "solves": 3, "user_id": 12}, {"user_id": 1, "solves": 2}])
    assert solves_of(array, 12) == 3
    assert solves_of(array, 1) == 2


def test_entries_are_users_or_challenges(array: bytes) -> None:
    assert entries_in("stats:scoreboard:dojo:5:0", array) == 4
    assert entries_in("stats:scores:dojo:5", b'{"ranks":[1,2],"solves":{"1":5,"2":4}}') == 2
    assert entries_in("stats:challenge_solves:module:5:0", b'{"1":5,"2":4,"3":1}') == 3
    assert entries_in("stats:scores:dojo:5", b"null") == 0
