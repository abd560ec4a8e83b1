"""Events given on the command line: accepted forms, and errors for all others."""

import msgspec
import orjson
import pytest

from statsd.cli.event_arguments import fields_of, parse_event
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
    '"solve_date": text (optional)}',
    "dojo_stats_update": '{"dojo_id": integer}',
    "scoreboard_update": '{"model_type": "dojo" or "module", '
    '"model_id": integer or {"dojo_id": integer, "module_index": integer}}',
    "scores_update": '{"dojo_id": integer (optional)}',
    "activity_update": '{"user_id": integer}',
    "user_update": '{"user_id": integer}',
}


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_every_type_is_parsed_with_all_its_fields(event_type: str) -> None:
    fields = COMPLETE.get(event_type, {})
    event = parse_event(event_type, orjson.dumps(fields).decode())
    assert isinstance(event, EVENT_TYPES[event_type])
    assert msgspec.to_builtins(event) == fields
    assert set(fields) == set(event.__struct_fields__)


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_the_fields_of_every_type_are_described(event_type: str) -> None:
    expected = f"wants {FORMS[event_type]}" if event_type in FORMS else "has no fields: {}"
    assert fields_of(event_type) == expected


@pytest.mark.parametrize(
    ("event_type", "text", "event"),
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
def test_every_form_that_the_consumer_accepts_is_accepted(
    event_type: str, text: str, event: Event
) -> None:
    assert parse_event(event_type, text) == event


def test_an_unknown_type_is_shown_with_control_characters_escaped() -> None:
    with pytest.raises(InvalidEventError) as caught:
        parse_event("no\x1bne", "{}")
    first, second = str(caught.value).splitlines()
    assert first == "there is no event type 'no\\x1bne'"
    assert second == f"the types are {', '.join(EVENT_TYPES)}"


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
def test_errors_name_the_reason_and_the_fields_of_the_type(text: str, reason: str) -> None:
    with pytest.raises(InvalidEventError, match=reason) as caught:
        parse_event("user_update", text)
    assert str(caught.value).endswith('; user_update wants {"user_id": integer}')
