"""The address of Redis, in REDIS_URL: one parser for the daemon and for the web half.

redis://user:password@host:6379/0          rediss:// with TLS
unix://user:password@/run/redis.sock?db=0
redis+sentinel://user:password@host:26379,host:26379/service/0      rediss+sentinel:// with TLS
"""

import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from statsd.addresses import parts
from statsd.addresses.parts import Host, ParameterError

WANT = (
    "want redis://host:6379/0, rediss:// (TLS), unix:///path?db=0 or "
    "redis+sentinel://host:26379,host:26379/service/0"
)
PORT, SENTINEL_PORT = 6379, 26379
SENTINEL_TIMEOUT = 0.5  # seconds; then the next sentinel is asked
_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")

_CERT_REQS = {
    **{name: name for name in ("none", "optional", "required")},
    **{f"CERT_{name.upper()}": name for name in ("none", "optional", "required")},  # Celery's words
}
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS = ("ssl_cert_reqs", "ssl_check_hostname", "ssl_password", *_FILES)
_LOGIN = ("username", "password")
_SENTINEL_LOGIN = ("sentinel_username", "sentinel_password")
OURS = (
    "client_name", "decode_responses", "encoding", "encoding_errors", "health_check_interval",
    "max_connections", "protocol", "retry_on_timeout", "socket_connect_timeout",
    "socket_keepalive", "socket_read_size", "socket_timeout", "timeout",
)  # fmt: skip
"""Parameters that are accepted without effect: what they say is decided by this package."""


class RedisAddress(NamedTuple):
    """A checked address."""

    options: Mapping[str, Any]
    """Arguments of the client's class: who, where, which database, TLS."""
    sentinels: tuple[Host, ...] = ()
    service: str = ""
    sentinel_options: Mapping[str, Any] = {}

    def client(self, module: Any, **options: Any) -> Any:
        """Return a client of `redis` or `redis.asyncio`; `options` win over the address."""
        if not self.sentinels:
            return module.Redis(**{**self.options, **options})
        bounds = {"socket_timeout": SENTINEL_TIMEOUT, "socket_connect_timeout": SENTINEL_TIMEOUT}
        bounds |= {name: options[name] for name in ("retry", "protocol") if name in options}
        sentinel = module.sentinel.Sentinel(
            self.sentinels, sentinel_kwargs={**self.sentinel_options, **bounds}
        )
        return sentinel.master_for(self.service, **{**self.options, **options})


def parse(text: str) -> RedisAddress:
    """Return the address in a text. Raises ValueError, which does not quote it."""
    with parts.wanting(WANT):
        return _parse(text.strip())


def _parse(text: str) -> RedisAddress:
    scheme, separator, _ = text.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise ValueError("the value is not an address of Redis")
    url = parts.split(text)
    known = ("db", *_LOGIN, *_SENTINEL_LOGIN, *_TLS, *OURS)
    given = parts.parameters_in(url.query, known)
    is_tls, is_sentinel = scheme.startswith("rediss"), scheme.endswith("sentinel")
    if not is_tls and any(name in _TLS for name in given):
        raise ParameterError("a parameter of TLS wants rediss:// or rediss+sentinel://")
    if not is_sentinel and any(name in _SENTINEL_LOGIN for name in given):
        raise ParameterError("a login of sentinels wants redis+sentinel://")
    user, password, rest = parts.login_in(url.netloc)
    tls = _tls(given) if is_tls else {}
    options: dict[str, Any] = {
        "username": given.get("username", user),
        "password": given.get("password", password),
        **tls,
    }
    if is_sentinel:
        service, _, database = unquote(url.path).strip("/").partition("/")
        if not service:
            raise ValueError("after the hosts come a slash and the name of the service")
        return RedisAddress(
            options | {"db": _database(given, database)},
            tuple(parts.host_in(each, SENTINEL_PORT) for each in rest.split(",")),
            service,
            {name.removeprefix("sentinel_"): given.get(name) for name in _SENTINEL_LOGIN} | tls,
        )
    if scheme == "unix":
        if rest or not url.path.strip("/"):
            raise ValueError("after unix:// comes the path of a socket, which begins with a slash")
        return RedisAddress(
            options | {"db": _database(given, ""), "unix_socket_path": unquote(url.path)}
        )
    if "," in rest:
        raise ValueError("several hosts want redis+sentinel://")
    host, port = parts.host_in(rest, PORT) if rest else ("localhost", PORT)
    database = unquote(url.path).strip("/")
    return RedisAddress(options | {"host": host, "port": port, "db": _database(given, database)})


def _database(given: Mapping[str, str], path: str) -> int:
    text = given.get("db", path) or "0"
    if not (text.isascii() and text.isdecimal()):
        raise ValueError("after the slash comes the number of a database, as in /0")
    return int(text)


def _tls(given: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of TLS. Its files are read once here, so that errors come at once."""
    text = given.get("ssl_cert_reqs", "required")
    cert_reqs = _CERT_REQS[parts.choice("ssl_cert_reqs", text, _CERT_REQS)]
    options: dict[str, Any] = {
        "ssl": True,
        "ssl_cert_reqs": cert_reqs,
        "ssl_check_hostname": cert_reqs == "required"
        and parts.boolean("ssl_check_hostname", given.get("ssl_check_hostname", "1")),
        "ssl_password": given.get("ssl_password"),
        **{name: given.get(name) for name in _FILES},
    }
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca := given.get("ssl_ca_certs"):
        parts.trust(context, "ssl_ca_certs", ca)
    certificate, key = given.get("ssl_certfile"), given.get("ssl_keyfile")
    if key and not certificate:
        raise ParameterError("ssl_keyfile wants ssl_certfile too")
    if certificate:
        names = ("ssl_certfile", "ssl_keyfile")
        parts.identify(context, names, certificate, key, given.get("ssl_password", ""))
    return options
