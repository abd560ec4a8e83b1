"""Addresses of Docker engines, and addresses without their passwords, for logs."""

import re
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

WANT_ENGINE = "want unix:///var/run/docker.sock or tcp://host:2375"

_ENGINES = ("tcp", "http", "https")
_SECRET = r"[?&](?:password|sslpassword|ssl_password|sentinel_password)"  # noqa: S105 - names of parameters


def engine_url(text: str) -> str:
    """Return an address of a Docker engine.

    Raises ValueError for any other text, and for an address with a user or a password, as engines
    have neither. The message does not quote the address.
    """
    try:
        is_address = _is_engine(urlsplit(text))
    except ValueError:  # UnicodeError is one
        is_address = False
    if not is_address:
        raise ValueError(f"an entry is not an address of an engine; {WANT_ENGINE}")
    return text


def _is_engine(parts: SplitResult) -> bool:
    """Return whether this is a socket's path, or a host with a port. May raise ValueError."""
    if parts.scheme == "unix":
        return not parts.netloc and parts.path.strip("/") != ""
    host = (parts.hostname or "").encode("idna")
    is_bare = "@" not in parts.netloc and parts.path in {"", "/"}
    return parts.scheme in _ENGINES and is_bare and bool(host and parts.port)


def without_password(url: str) -> str:
    """Return an address with stars for its password."""
    before, question, query = url.partition("?")
    scheme, separator, rest = before.partition("://")
    login, at, location = rest.rpartition("@")
    user, colon, _password = login.partition(":")
    shown = f"{scheme}{separator}{user}{':***' if colon else ''}{at}{location}{question}{query}"
    return re.sub(rf"({_SECRET}=)[^&]*", r"\1***", shown)


def credentials(url: str) -> list[str]:
    """Return the user and the password in an address, decoded, as far as it has them."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    named = [word for name in ("user", "username", "password") for word in query.get(name, [])]
    return [*named, *(unquote(word) for word in (parts.username, parts.password) if word)]


def masked(text: str) -> str:
    """Return free text with stars for the passwords in its URLs, as far as URLs can be found."""
    text = re.sub(r"(://[^:/@\s\"]*):[^\s/\"]*@", r"\1:***@", text)
    return re.sub(
        rf"({_SECRET}=)[^&\s\"'\\]*",
        r"\1***",
        text,
    )
