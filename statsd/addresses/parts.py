"""The parts of an address that all servers share: hosts, query parameters, TLS files.

Errors are ValueErrors. No message quotes the address, since it may hold a password.
"""

import difflib
import ssl
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from statsd.switches import WORDS

LARGEST_PORT = 65_535
LARGEST = 2**31 - 1
LONGEST_LABEL = 63  # characters between two dots of a host name
IN_PASSWORDS = "in a password, @ is %40, / is %2F, # is %23, ? is %3F, : is %3A"

Host = tuple[str, int]
"""A name or address, and a port."""


class ParameterError(ValueError):
    """A parameter is wrong; the message says what would be right."""


_FORBIDDEN = set(" \t\r\n/\\?#@%<>^`{|}\"'")


def login_in(netloc: str) -> tuple[str | None, str | None, str]:
    """Return the user and the password, decoded, and the rest of a network location."""
    login, at, rest = netloc.rpartition("@")
    if "@" in login:
        raise ValueError(f"there are two @; {IN_PASSWORDS}")
    user, colon, password = login.partition(":")
    return (unquote(user) or None if at else None), (unquote(password) if colon else None), rest


def host_in(text: str, default_port: int) -> Host:
    """Return the host and the port in `host:port` or `[address]:port`."""
    if text.startswith("["):
        name, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("an IPv6 address is written in brackets, as [::1]:5432")
        port = rest[1:]
    elif text.count(":") > 1:
        name, port = text, ""  # an IPv6 address in a parameter
    else:
        name, _, port = text.partition(":")
    if port and not (port.isascii() and port.isdecimal() and 0 < int(port) <= LARGEST_PORT):
        raise ValueError(f"the port is not a number from 1 to {LARGEST_PORT}; {IN_PASSWORDS}")
    return checked_host(name), int(port) if port else default_port


def checked_host(name: str) -> str:
    """Return a name that a host can have."""
    labels = name.removesuffix(".").split(".")
    if (
        not name
        or _FORBIDDEN & set(name)
        or not all(0 < len(label) <= LONGEST_LABEL for label in labels)
    ):
        raise ValueError(
            "the host's name is missing, or no host can have it: it has parts of 1 to "
            f"{LONGEST_LABEL} characters, with dots between them"
        )
    try:
        name.encode("idna")
    except UnicodeError:
        raise ValueError("no host can have this name") from None
    return name


@contextmanager
def wanting(form: str) -> Iterator[None]:
    """Add the form that is right to errors about the whole address, not about a parameter."""
    try:
        yield
    except ParameterError:
        raise
    except ValueError as error:
        raise ValueError(f"{error}; {form}") from None


def split(text: str) -> SplitResult:
    """Split a URL. The errors of the library would quote a password."""
    if "#" in text:
        raise ValueError(f"# has no meaning here; {IN_PASSWORDS}")
    try:
        return urlsplit(text)
    except ValueError:
        raise ValueError(f"the host is not valid; {IN_PASSWORDS}") from None


def parameters_in(query: str, known: Collection[str]) -> dict[str, str]:
    """Return the parameters of a query, decoded. An empty value is as if it was not given."""
    pairs = [part.partition("=") for part in query.split("&") if part]
    if not all(equals for _, equals, _ in pairs):
        raise ValueError(f"after ? come parameters, as name=value&name=value; {IN_PASSWORDS}")
    refuse_unknown([name for name, _, _ in pairs], known)
    found: dict[str, str] = {}
    for name, _, quoted in pairs:
        value = unquote(quoted)
        if name in found and found[name] != value:
            raise ParameterError(f"the parameter {name} is given twice")
        if value:
            found[name] = value
    return found


def refuse_unknown(given: Collection[str], known: Collection[str]) -> None:
    """Refuse parameters that are not known, with the known one that is perhaps meant.

    Their names are not quoted: they may be parts of a password that has a question mark.
    """
    for name in sorted(set(given) - set(known)):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"is {near[0]} meant?" if near else f"there are {', '.join(sorted(known))}"
        raise ParameterError(f"a parameter is not supported; {hint} ({IN_PASSWORDS})")


def choice(name: str, value: str, choices: Mapping[str, Any] | Collection[str]) -> str:
    """Return a value that is one of the choices."""
    if value not in choices:
        raise ParameterError(f"{name}={value[:60]!r}: want {', '.join(choices)}")
    return value


def number(name: str, value: str, *, least: float = 0, kind: Callable[[str], Any] = int) -> Any:
    """Return a number that is not below `least`, and of 31 bits."""
    try:
        found = kind(value) if value.isascii() else None
    except ValueError:
        found = None
    if found is None or not least <= found <= LARGEST:
        raise ParameterError(f"{name}={value[:60]!r}: want a number, {least} or more")
    return found


def boolean(name: str, value: str) -> bool:
    """Return a boolean, as the switches write it."""
    return WORDS[choice(name, value.lower(), WORDS)]


def readable(name: str, path: str) -> str:
    """Return the path of a file that can be read; `name` is that of the parameter."""
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no such path"
        raise ParameterError(f"{name}: the file {path!r} cannot be read: {reason}") from None
    return path


def trust(context: ssl.SSLContext, name: str, path: str) -> None:
    """Let a context trust the certificates in a file."""
    try:
        context.load_verify_locations(cafile=readable(name, path))
    except ssl.SSLError:
        raise ParameterError(f"{name}: the file {path!r} has no certificates in PEM form") from None


def identify(
    context: ssl.SSLContext,
    names: tuple[str, str],
    certificate: str,
    key: str | None,
    password: str,
) -> None:
    """Give a context a client certificate; `names` are those of the two parameters."""
    readable(names[0], certificate)
    if key:
        readable(names[1], key)
    try:
        context.load_cert_chain(certificate, key, lambda: password)
    except (ssl.SSLError, OSError):
        raise ParameterError(
            f"{names[0]} and {names[1]}: the certificate and its private key do not fit together, "
            "or the key's password is wrong"
        ) from None
