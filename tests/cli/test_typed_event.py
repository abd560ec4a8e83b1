"""Events written by hand: what is taken, and what is said of all else."""

import msgspec
import orjson
import pytest

from statsd.cli.typed_event import read, wants
from statsd.errors import InvalidEventError
from statsd.events import EVENT_TYPES, Event, ModuleId, ScoreboardUpdate, ScoresUpdate

MODULE = {"dojo_id": -5, "module_index": 0}
COMPLETE: dict[str, dict[str, object]] = {
    "challenge_solve": {"user_id": 7, "challenge_id": 12, "solve_date": "2026-11-24"},
    "dojo_stats_update": {"dojo_id": -5},
    "scoreboard_update": {"model_type": "module", "model_id": MODULE},
    "scores_update": {"dojo_id": 5},
    "activity_update": {"user_id": 7},
    "user_update": {"user_id": 7},
}
FORMS = {
    "challenge_solve": '{"user_id": integer, "challenge_id": integer, '
    '"solve_date": text (if wanted)}',
    "dojo_stats_update": '{"dojo_id": integer}',
    "scoreboard_update": '{"model_type": "dojo" or "module", '
    '"model_id": integer or {"dojo_id": integer, "module_index": integer}}',
    "scores_update": '{"dojo_id": integer (if wanted)}',
    "activity_update": '{"user_id": integer}',
    "user_update": '{"user_id": integer}',
}


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_every_type_is_read_with_all_its_fields(kind: str) -> None:
    fields = COMPLETE.get(kind, {})
    event = read(kind, orjson.dumps(fields).decode())
    assert isinstance(event, EVENT_TYPES[kind])
    assert msgspec.to_builtins(event) == fields
    assert set(fields) == set(event.__struct_fields__)


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_the_fields_of_every_type_are_told(kind: str) -> None:
    expected = f"wants {FORMS[kind]}" if kind in FORMS else "has no fields: {}"
    assert wants(kind) == expected


@pytest.mark.parametrize(
    ("kind", "text", "event"),
    [
        ("scores_update", " null ", ScoresUpdate()),
        ("scores_update", '{"dojo_id": null}', ScoresUpdate()),
        (
            "scoreboard_update",
            '{"model_id": {"module_index": 0, "dojo_id": -5}, "model_type": "module"}',
            ScoreboardUpdate(model_type="module", model_id=ModuleId(dojo_id=-5, module_index=0)),
        ),
    ],
)
def test_what_the_consumer_takes_is_leased(kind: str, text: str, event: Event) -> None:
    assert read(kind, text) == event


def test_a_type_that_is_none_is_shown_as_it_can_be() -> None:
    with pytest.raises(InvalidEventError) as caught:
        read("no\x1bne", "{}")
    first, second = str(caught.value).splitlines()
    assert first == "there is no event type 'no\\x1bne'"
    assert second == f"there are {', '.join(EVENT_TYPES)}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty document"),
        ("{", "unexpected end of data"),
        ("{}", "missing required field `user_id`"),
        ("null", "missing required field `user_id`"),
        ("7", "Expected `object`, got `int`"),
        ('{"user_id": "7"}', "Expected `int`, got `str` - at `\\$.user_id`"),
        ('{"user_id": 0}', "Expected `int` >= 1"),
        ('{"user_id": 99999999999999999999999}', "Expected `int`"),
        ('{"user_id": 7, "user": 8}', "there is no field 'user'"),
        ('{"user_id": 7, "\x7f": 8}', "there is no field '\\\\x7f'"),
        ('{"user_id": 7}, "type": {}', "unexpected content after document"),
        ("[" * 2000, "depth limit"),
        ("\udcff", "not valid UTF-8"),
    ],
)
def test_what_is_wrong_is_said_with_what_is_wanted(text: str, reason: str) -> None:
    with pytest.raises(InvalidEventError, match=reason) as caught:
        read("user_update", text)
    assert str(caught.value).endswith('; user_update wants {"user_id": integer}')
