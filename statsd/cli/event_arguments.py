"""Events given on the command line: decoded as the consumer does, and checked more strictly."""

import difflib

import msgspec
import orjson
from msgspec.inspect import IntType, LiteralType, NoneType, StructType, Type, UnionType, type_info

from statsd.errors import InvalidEventError
from statsd.events import EVENT_TYPES, Event, decode


def parse_event(event_type: str, text: str) -> Event:
    """Return the event of a type, with its fields from a JSON object.

    Raises InvalidEventError, with the fields that the type has. Unlike the consumer it also raises
    the error for unknown fields.
    """
    if event_type not in EVENT_TYPES:
        raise InvalidEventError(_unknown_type(event_type))
    try:
        payload = orjson.loads(text)
        data = {"type": event_type, "payload": msgspec.Raw(text.encode())}
        event = decode(msgspec.json.encode(data))
    except (orjson.JSONDecodeError, InvalidEventError) as error:
        raise InvalidEventError(f"{error}; {event_type} {fields_of(event_type)}") from None
    unknown = sorted(set(payload or ()) - set(event.__struct_fields__))
    if unknown:
        raise InvalidEventError(
            f"there is no field {unknown[0]!a}; {event_type} {fields_of(event_type)}"
        )
    return event


def fields_of(event_type: str) -> str:
    """Return the fields of an event type and their types, for people."""
    form = _form(type_info(EVENT_TYPES[event_type]))
    return "has no fields: {}" if form == "{}" else f"wants {form}"


def _form(field_type: Type) -> str:
    if isinstance(field_type, StructType):
        return "{" + ", ".join(map(_field, field_type.fields)) + "}"
    if isinstance(field_type, UnionType):
        types = (each for each in field_type.types if not isinstance(each, NoneType))
        return " or ".join(map(_form, types))
    if isinstance(field_type, LiteralType):
        return " or ".join(orjson.dumps(each).decode() for each in field_type.values)
    return "integer" if isinstance(field_type, IntType) else "text"


def _field(field: msgspec.inspect.Field) -> str:
    return f'"{field.name}": {_form(field.type)}' + ("" if field.required else " (optional)")


def _unknown_type(event_type: str) -> str:
    similar = difflib.get_close_matches(event_type, EVENT_TYPES, n=1)
    meant = f"; is {similar[0]} meant?" if similar else ""
    return f"there is no event type {event_type!a}{meant}\nthe types are {', '.join(EVENT_TYPES)}"
