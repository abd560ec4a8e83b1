"""Events: the wire form of the contract, and refused entries."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, strategies as st

from statsd.errors import InvalidEventError
from statsd.events import (
    EVENT_TYPES,
    ActivityUpdate,
    BeltsUpdate,
    ChallengeSolve,
    ContainerStatsUpdate,
    DojoStatsUpdate,
    EmojisUpdate,
    Event,
    ModuleId,
    ScoreboardUpdate,
    ScoresUpdate,
    UserUpdate,
    decode,
    encode,
)

LARGEST = 2**31 - 1
SMALLEST = -(2**31)
DEEP = 100_000
NO_PAYLOAD = (BeltsUpdate, EmojisUpdate, ContainerStatsUpdate, ScoresUpdate)

CONTRACT: list[tuple[str, dict[str, Any], Event]] = [
    ("challenge_solve", {"user_id": 1, "challenge_id": 2}, ChallengeSolve(1, 2)),
    (
        "challenge_solve",
        {"user_id": 1, "challenge_id": 2, "solve_date": "2030-01-02T03:04:05"},
        ChallengeSolve(1, 2, "2030-01-02T03:04:05"),
    ),
    (
        "challenge_solve",
        {"user_id": LARGEST, "challenge_id": 1, "solve_date": None},
        ChallengeSolve(LARGEST, 1),
    ),
    ("dojo_stats_update", {"dojo_id": SMALLEST}, DojoStatsUpdate(SMALLEST)),
    ("dojo_stats_update", {"dojo_id": 0}, DojoStatsUpdate(0)),
    ("scoreboard_update", {"model_type": "dojo", "model_id": -5}, ScoreboardUpdate("dojo", -5)),
    (
        "scoreboard_update",
        {"model_type": "module", "model_id": {"dojo_id": -5, "module_index": 0}},
        ScoreboardUpdate("module", ModuleId(-5, 0)),
    ),
    ("scores_update", {"dojo_id": LARGEST}, ScoresUpdate(LARGEST)),
    ("scores_update", {}, ScoresUpdate()),
    ("belts_update", {}, BeltsUpdate()),
    ("emojis_update", {}, EmojisUpdate()),
    ("activity_update", {"user_id": 3}, ActivityUpdate(3)),
    ("user_update", {"user_id": 3}, UserUpdate(3)),
    ("container_stats_update", {}, ContainerStatsUpdate()),
]

serials = st.integers(1, LARGEST)
dojo_ids = st.integers(SMALLEST, LARGEST)
events = st.one_of(
    st.builds(ChallengeSolve, serials, serials, st.none() | st.text()),
    st.builds(DojoStatsUpdate, dojo_ids),
    st.builds(ScoreboardUpdate, st.just("dojo"), dojo_ids),
    st.builds(
        ScoreboardUpdate,
        st.just("module"),
        st.builds(ModuleId, dojo_ids, st.integers(0, LARGEST)),
    ),
    st.builds(ScoresUpdate, st.none() | dojo_ids),
    st.builds(ActivityUpdate, serials),
    st.builds(UserUpdate, serials),
    st.sampled_from([BeltsUpdate(), EmojisUpdate(), ContainerStatsUpdate()]),
)


def entry(event_type: str, payload: Any, **more: Any) -> bytes:
    return json.dumps({"type": event_type, "payload": payload, **more}).encode()


def user_update(user_id: str) -> bytes:
    return b'{"type": "user_update", "payload": {"user_id": %s}}' % user_id.encode()


def solved_on(solve_date: bytes) -> bytes:
    return (
        b'{"type": "challenge_solve", "payload":'
        b' {"user_id": 1, "challenge_id": 1, "solve_date": "%s"}}' % solve_date
    )


def ids(record: Any) -> Iterator[tuple[str, Any]]:
    """Yield every id in an event, under the name of its field."""
    for name, value in msgspec.structs.asdict(record).items():
        if isinstance(value, ModuleId):
            yield from ids(value)
        elif name == "model_id" or (name == "dojo_id" and value is not None):
            yield "dojo_id", value
        elif name in {"user_id", "challenge_id", "module_index"}:
            yield name, value


def assert_ids_are_in_range(event: Event) -> None:
    lowest = {"user_id": 1, "challenge_id": 1, "module_index": 0, "dojo_id": SMALLEST}
    for name, value in ids(event):
        assert type(value) is int, (name, value)
        assert lowest[name] <= value <= LARGEST, (name, value)


def test_the_event_types_are_exactly_those_of_the_contract() -> None:
    assert set(EVENT_TYPES) == {name for name, _, _ in CONTRACT}


@pytest.mark.parametrize(("event_type", "payload", "event"), CONTRACT)
def test_an_entry_of_the_contract_is_decoded(
    event_type: str, payload: dict[str, Any], event: Event
) -> None:
    assert decode(entry(event_type, payload, timestamp="2030-01-02T03:04:05+00:00")) == event


@pytest.mark.parametrize(("event_type", "payload", "event"), CONTRACT)
def test_an_event_is_encoded_in_the_form_of_the_contract(
    event_type: str, payload: dict[str, Any], event: Event
) -> None:
    data = json.loads(encode(event))
    assert data.pop("timestamp").endswith("+00:00")
    given_keys = {name: value for name, value in payload.items() if value is not None}
    assert data == {"type": event_type, "payload": given_keys}


@given(events)
def test_an_encoded_event_decodes_to_the_same_event(event: Event) -> None:
    assert decode(encode(event)) == event


@pytest.mark.parametrize("record", NO_PAYLOAD)
@pytest.mark.parametrize(
    "rest", ["", ', "payload": null', ', "payload" :  null ', ', "payload":{}']
)
def test_an_optional_payload_may_be_absent_null_or_empty(record: type[Event], rest: str) -> None:
    assert decode(f'{{"type": "{record.type}"{rest}}}'.encode()) == record()


@pytest.mark.parametrize("payload", [None, {}])
@pytest.mark.parametrize(
    "event_type", sorted(set(EVENT_TYPES) - {each.type for each in NO_PAYLOAD})
)
def test_an_event_without_its_required_payload_is_refused(event_type: str, payload: Any) -> None:
    with pytest.raises(InvalidEventError, match="missing required field"):
        decode(entry(event_type, payload))


def test_the_timestamp_may_be_absent_and_of_any_form() -> None:
    assert decode(entry("user_update", {"user_id": 3})) == UserUpdate(3)
    for timestamp in (None, 5, "yesterday", {"a": [1]}):
        assert decode(entry("user_update", {"user_id": 3}, timestamp=timestamp)) == UserUpdate(3)


def test_unknown_keys_are_ignored_in_entry_payload_and_model_id() -> None:
    data = entry(
        "scoreboard_update",
        {
            "model_type": "module",
            "model_id": {"dojo_id": 1, "module_index": 2, "id": "intro"},
            "dojo_id": "ignored",
        },
        version=[{"deep": None}],
    )
    assert decode(data) == ScoreboardUpdate("module", ModuleId(1, 2))


def test_the_last_value_of_a_repeated_key_counts_and_all_are_checked() -> None:
    assert decode(user_update('1, "user_id": 2')) == UserUpdate(2)
    with pytest.raises(InvalidEventError):
        decode(user_update('"1", "user_id": 2'))
    with pytest.raises(InvalidEventError):
        decode(user_update('2, "user_id": 0'))


@pytest.mark.parametrize(
    "user_id",
    [
        "0",
        "-0",
        "-1",
        "2147483648",
        "-2147483649",
        "9223372036854775808",
        "18446744073709551617",
        "340282366920938463463374607431768211457",
        "1" * 5_000,
        "1" * 100_000,
        "1.0",
        "1.5",
        "1e0",
        "1e400",
        "NaN",
        "Infinity",
        "-Infinity",
        "01",
        "+1",
        "0x1",
        "true",
        "false",
        "null",
        '"1"',
        '""',
        "[1]",
        '{"user_id": 1}',
    ],
)
def test_an_invalid_user_id_is_refused(user_id: str) -> None:
    with pytest.raises(InvalidEventError):
        decode(user_update(user_id))


@pytest.mark.parametrize(
    ("event_type", "payload"),
    [
        ("challenge_solve", {"user_id": 1, "challenge_id": 0}),
        ("challenge_solve", {"user_id": 1, "challenge_id": "2"}),
        ("challenge_solve", {"user_id": 1}),
        ("challenge_solve", {"challenge_id": 1}),
        ("challenge_solve", {"user_id": 1, "challenge_id": 2, "solve_date": 5}),
        ("challenge_solve", {"user_id": True, "challenge_id": 2}),
        ("dojo_stats_update", {"dojo_id": LARGEST + 1}),
        ("dojo_stats_update", {"dojo_id": SMALLEST - 1}),
        ("dojo_stats_update", {"dojo_id": 4294967295}),
        ("dojo_stats_update", {"dojo_id": "-5"}),
        ("dojo_stats_update", {"dojo_id": -5.0}),
        ("dojo_stats_update", {"dojo_id": None}),
        ("scores_update", {"dojo_id": "5"}),
        ("scores_update", {"dojo_id": False}),
        ("activity_update", {"user_id": -1}),
        ("user_update", [1]),
        ("user_update", "1"),
        ("belts_update", []),
        ("belts_update", 0),
        ("belts_update", False),
        ("belts_update", "null"),
    ],
)
def test_a_payload_with_a_wrong_value_is_refused(event_type: str, payload: Any) -> None:
    with pytest.raises(InvalidEventError):
        decode(entry(event_type, payload))


@pytest.mark.parametrize(
    ("model_type", "model_id"),
    [
        ("dojo", {"dojo_id": 1, "module_index": 2}),
        ("dojo", "1"),
        ("dojo", None),
        ("dojo", True),
        ("module", 1),
        ("module", [1, 2]),
        ("module", {"dojo_id": 1}),
        ("module", {"module_index": 1}),
        ("module", {"dojo_id": 1, "module_index": -1}),
        ("module", {"dojo_id": 1, "module_index": LARGEST + 1}),
        ("module", {"dojo_id": 1, "module_index": 0.0}),
        ("module", {"dojo_id": 1, "module_index": "0"}),
        ("module", {"dojo_id": LARGEST + 1, "module_index": 0}),
        ("challenge", 1),
        ("Dojo", 1),
        (None, 1),
        (1, 1),
    ],
)
def test_a_model_id_of_another_model_type_is_refused(model_type: Any, model_id: Any) -> None:
    with pytest.raises(InvalidEventError):
        decode(entry("scoreboard_update", {"model_type": model_type, "model_id": model_id}))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b"5",
        b'"belts_update"',
        b"{}",
        b"{",
        b'{"type"',
        b'{"type": null}',
        b'{"type": 5}',
        b'{"type": ["belts_update"]}',
        b'{"type": "belts_update"} {}',
        b'{"type": "belts_update",}',
        b"{'type': 'belts_update'}",
        b'{"TYPE": "belts_update"}',
        b'{"type": "belts_update", "payload": }',
        b'{"type": "belts_update", "payload": {"x": NaN}}',
        b'{"type": "belts_update", "x": Infinity}',
        b'{"type": "belts_update\x00"}',
        b'{"payload": {"user_id": 1}}',
    ],
)
def test_data_in_another_form_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidEventError):
        decode(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfe",
        b'{"type": "belts_\xffupdate"}',
        b'{"type": "\xc3"}',
        b'{"type": "\xed\xa0\x80"}',
        b'{"type": "\\ud800"}',
        solved_on(b"\xff"),
        solved_on(b"\\ud800"),
        b'{"type": "scoreboard_update", "payload": {"model_type": "\xff", "model_id": 1}}',
        b'{"type": "user_update", "payload": {"user_id": \xff}}',
        b'\xef\xbb\xbf{"type": "belts_update"}',
        '{"type": "belts_update"}'.encode("utf-16"),
        '{"type": "belts_update"}'.encode("utf-32-le"),
    ],
)
def test_invalid_utf_8_is_refused_in_all_decoded_parts(data: bytes) -> None:
    with pytest.raises(InvalidEventError):
        decode(data)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * DEEP,
        b'{"type":' * DEEP,
        b'{"type": "belts_update", "x": ' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"type": "belts_update", "payload": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
        b'{"type": "belts_update", "payload": {"a": ' + b"[" * DEEP + b"]" * DEEP + b"}}",
        b'{"type": "user_update", "payload": ' + b'{"user_id":' * DEEP,
        user_update("[" * DEEP + "]" * DEEP),
    ],
    ids=["arrays", "types", "unknown key", "payload", "payload's key", "user ids", "user id"],
)
def test_deeply_nested_json_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidEventError):
        decode(data)


def test_an_entry_without_data_is_refused() -> None:
    with pytest.raises(InvalidEventError, match="no field `data`"):
        decode(None)


def test_the_error_quotes_the_beginning_of_an_unknown_type() -> None:
    with pytest.raises(InvalidEventError, match="unknown event type 'teleport'"):
        decode(entry("teleport", {}))
    with pytest.raises(InvalidEventError) as refused:
        decode(entry("x" * 1_000_000, {}))
    assert len(str(refused.value)) < 200


def test_an_unknown_type_with_control_characters_leaves_the_error_printable() -> None:
    with pytest.raises(InvalidEventError) as refused:
        decode(entry("a\nb\r\x1b[2J", {}))
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (user_update('"1"'), "user_id"),
        (entry("scores_update", {"dojo_id": "x"}), "dojo_id"),
        (
            entry(
                "scoreboard_update",
                {"model_type": "module", "model_id": {"dojo_id": 1, "module_index": -1}},
            ),
            "module_index",
        ),
    ],
)
def test_the_error_names_the_field(data: bytes, where: str) -> None:
    with pytest.raises(InvalidEventError, match=where):
        decode(data)


def test_an_event_cannot_be_built_with_a_model_id_of_another_type() -> None:
    with pytest.raises(ValueError, match="model_id is not that of a dojo"):
        ScoreboardUpdate("dojo", ModuleId(1, 2))
    with pytest.raises(ValueError, match="model_id is not that of a module"):
        ScoreboardUpdate("module", 1)


def outcome(data: bytes) -> Event | None:
    """Return the decoded event, or None if it is refused; any other exception is raised."""
    try:
        return decode(data)
    except InvalidEventError:
        return None


@given(st.binary())
@example(b"\x00")
def test_any_bytes_decode_to_valid_ids_or_are_refused(data: bytes) -> None:
    event = outcome(data)
    if event is not None:
        assert_ids_are_in_range(event)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(SMALLEST - 2, LARGEST + 2)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["1", "-5", "module", "dojo", "", "null"])
)
names = st.sampled_from(
    ["user_id", "challenge_id", "dojo_id", "model_type", "model_id", "module_index", "solve_date"]
) | st.text(max_size=8)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)
hostile_entries = st.fixed_dictionaries(
    {"type": st.sampled_from(sorted(EVENT_TYPES)) | anything},
    optional={
        "payload": st.dictionaries(names, anything, max_size=5) | anything,
        "timestamp": anything,
    },
)


@given(hostile_entries | anything)
def test_any_json_decodes_to_valid_ids_or_is_refused(value: Any) -> None:
    # Python's json writes NaN and Infinity, which JSON does not have; entries may contain them.
    event = outcome(json.dumps(value).encode())
    if event is not None:
        assert value["type"] == event.type
        assert_ids_are_in_range(event)


@given(events, st.data())
def test_an_entry_with_one_changed_byte_decodes_to_valid_ids_or_is_refused(
    event: Event, data: st.DataObject
) -> None:
    damaged = bytearray(encode(event))
    position = data.draw(st.integers(0, len(damaged) - 1))
    damaged[position] = data.draw(st.integers(0, 255))
    decoded = outcome(bytes(damaged))
    if decoded is not None:
        assert_ids_are_in_range(decoded)
