"""Events written by hand: read as the consumer reads them, and stricter where people err."""

import difflib

import msgspec
import orjson
from msgspec.inspect import IntType, LiteralType, NoneType, StructType, Type, UnionType, type_info

from statsd.errors import InvalidEventError
from statsd.events import EVENT_TYPES, Event, decode


def read(kind: str, text: str) -> Event:
    """Return the event of a type, with its fields from a JSON object.

    Raises InvalidEventError, which says what would be right; also for fields that the type does
    not have, which the consumer ignores.
    """
    if kind not in EVENT_TYPES:
        raise InvalidEventError(_no_type(kind))
    try:
        payload = orjson.loads(text)
        data = {"type": kind, "payload": msgspec.Raw(text.encode())}
        event = decode(msgspec.json.encode(data))
    except (orjson.JSONDecodeError, InvalidEventError) as error:
        raise InvalidEventError(f"{error}; {kind} {wants(kind)}") from None
    strange = sorted(set(payload or ()) - set(event.__struct_fields__))
    if strange:
        raise InvalidEventError(f"there is no field {strange[0]!a}; {kind} {wants(kind)}")
    return event


def wants(kind: str) -> str:
    """Return which fields a type of event has, for people."""
    form = _form(type_info(EVENT_TYPES[kind]))
    return "has no fields: {}" if form == "{}" else f"wants {form}"


def _form(wanted: Type) -> str:
    if isinstance(wanted, StructType):
        return "{" + ", ".join(map(_field, wanted.fields)) + "}"
    if isinstance(wanted, UnionType):
        return " or ".join(_form(each) for each in wanted.types if not isinstance(each, NoneType))
    if isinstance(wanted, LiteralType):
        return " or ".join(orjson.dumps(each).decode() for each in wanted.values)
    return "integer" if isinstance(wanted, IntType) else "text"


def _field(field: msgspec.inspect.Field) -> str:
    return f'"{field.name}": {_form(field.type)}' + ("" if field.required else " (if wanted)")


def _no_type(kind: str) -> str:
    near = difflib.get_close_matches(kind, EVENT_TYPES, n=1)
    meant = f"; is {near[0]} meant?" if near else ""
    return f"there is no event type {kind!a}{meant}\nthere are {', '.join(EVENT_TYPES)}"
