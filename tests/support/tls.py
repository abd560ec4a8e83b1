"""PostgreSQL and Redis with TLS. The wheels are built without it, the distribution's have it."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import pytest

from statsd.dev import embedded
from tests.support.certificates import Authority, Certificate

POSTGRES = Path("/usr/lib/postgresql/15/bin/postgres")
HOST = "localhost"  # the name in the certificates

# Over the unix socket everybody is trusted; over TCP there is only TLS.
TRUSTS = "local all all trust\n"
WITHOUT_CERTIFICATE = TRUSTS + "hostssl all all 127.0.0.1/32 trust\n"
WITH_CERTIFICATE = TRUSTS + "hostssl all all 127.0.0.1/32 cert clientcert=verify-full\n"


class TlsPostgres(embedded.Postgres):
    """A PostgreSQL that accepts only TLS over TCP."""

    def __init__(
        self, directory: Path, authority: Authority, certificate: Certificate, access: str
    ) -> None:
        folder = directory / self.name
        self._files = {
            "ssl_cert_file": (folder / "server.crt", certificate.certificate.read_text()),
            "ssl_key_file": (folder / "server.key", certificate.key.read_text()),
            "ssl_ca_file": (folder / "authority.crt", authority.certificate.read_text()),
            "hba_file": (folder / "pg_hba.conf", access),
        }
        settings = {name: path for name, (path, _) in self._files.items()}
        super().__init__(POSTGRES, directory, {"ssl": "on", **settings})
        self._authority = authority

    def _initialise(self) -> None:
        """Create a cluster, and beside it the files, which only the server's account may read."""
        super()._initialise()
        for path, text in self._files.values():
            path.write_text(text)
            path.chmod(0o600)
            if self._account:
                shutil.chown(path, self._account.pw_uid, self._account.pw_gid)

    def tls_url(self, user: str, *, host: str = HOST, **parameters: str | None) -> str:
        """Return a URL in libpq's form, which verifies the server and shows a certificate.

        `parameters` replace or add some of the URL, or remove some (None).
        """
        own = self._authority.client(user)
        query: Mapping[str, object] = {
            "sslmode": "verify-full",
            "sslrootcert": self._authority.certificate,
            "sslcert": own.certificate,
            "sslkey": own.key,
        }
        return f"postgresql://{user}@{host}:{self.port}/postgres?{_query({**query, **parameters})}"


class TlsRedis(NamedTuple):
    """A running Redis with a second port, for TLS. The other port is for the test itself."""

    server: embedded.Redis
    port: int
    authority: Authority

    def tls_url(self, *, host: str = HOST, **parameters: str | None) -> str:
        """Return a URL in redis-py's form, which verifies the server and shows a certificate.

        `parameters` replace or add some of the URL, or remove some (None).
        """
        own = self.authority.client("statsd")
        query: Mapping[str, object] = {
            "ssl_ca_certs": self.authority.certificate,
            "ssl_certfile": own.certificate,
            "ssl_keyfile": own.key,
        }
        return f"rediss://{host}:{self.port}/0?{_query({**query, **parameters})}"


@contextmanager
def postgres(
    authority: Authority,
    certificate: Certificate | None = None,
    *,
    access: str = WITH_CERTIFICATE,
) -> Iterator[TlsPostgres]:
    """Run PostgreSQL with a server's certificate; `access` is the text of its pg_hba.conf.

    If it is not installed, skip; in CI, fail.
    """
    if not POSTGRES.exists():
        _missing(str(POSTGRES))
    shown = certificate or authority.server()
    with embedded.running(
        lambda directory: TlsPostgres(directory, authority, shown, access)
    ) as server:
        yield server


@contextmanager
def redis(
    authority: Authority, certificate: Certificate | None = None, *, clients: str = "yes"
) -> Iterator[TlsRedis]:
    """Run Redis with a server's certificate; `clients` (yes, no): they must have one as well.

    If it is not installed, skip; in CI, fail.
    """
    program = shutil.which("redis-server") or _missing("redis-server")
    shown = certificate or authority.server()
    port = embedded.free_port()
    options = {
        "--tls-port": str(port),
        "--tls-cert-file": str(shown.certificate),
        "--tls-key-file": str(shown.key),
        "--tls-ca-cert-file": str(authority.certificate),
        "--tls-auth-clients": clients,
    }
    arguments = [part for option in options.items() for part in option]
    with embedded.redis(arguments=arguments, binary=program) as server:
        yield TlsRedis(server, port, authority)


def _missing(program: str) -> str:
    if os.environ.get("CI"):
        pytest.fail(f"{program} is not installed; .ci/run installs it")
    pytest.skip(f"{program} is not installed")


def _query(parameters: Mapping[str, object]) -> str:
    given = {name: str(value) for name, value in parameters.items() if value is not None}
    return urlencode(given, safe="/")
