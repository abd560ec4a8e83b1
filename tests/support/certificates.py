"""A private certificate authority, and certificates for servers and clients, made with openssl."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

EC_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
LASTS = 30  # days
EXPIRED = -1  # days
SERVER_NAMES = "DNS:localhost,IP:127.0.0.1"
WRONG_NAMES = "DNS:other.example"

# Python 3.13 verifies strictly: it requires the identifiers of both keys.
EXTENSIONS = """
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
"""


class Certificate(NamedTuple):
    """The files of a certificate and its key, both PEM."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority in a folder. Each certificate is made once, on demand."""

    def __init__(self, folder: Path, name: str = "private") -> None:
        self._folder = folder
        self._name = name
        self._own = Certificate(folder / f"{name}.crt", folder / f"{name}.key")
        _openssl(
            *("req", "-x509", *EC_KEY, "-days", str(LASTS), "-subj", f"/CN={name} authority"),
            *("-addext", "basicConstraints=critical,CA:TRUE"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            *("-keyout", self._own.key, "-out", self._own.certificate),
        )
        self.server = cache(self._server)
        self.client = cache(self._client)

    @property
    def certificate(self) -> Path:
        """The file of the authority's own certificate, with which others verify."""
        return self._own.certificate

    def _server(self, names: str = SERVER_NAMES, days: int = LASTS) -> Certificate:
        """Return a server's certificate for these names; with negative `days` it is expired."""
        usage = f"extendedKeyUsage = serverAuth\nsubjectAltName = {names}\n"
        return self._signed("localhost", usage, days)

    def _client(self, user: str) -> Certificate:
        """Return a client's certificate; its common name is the user, as PostgreSQL wants it."""
        return self._signed(user, "extendedKeyUsage = clientAuth\n", LASTS)

    def _signed(self, subject: str, usage: str, days: int) -> Certificate:
        path = self._folder / f"{self._name}-{len(list(self._folder.iterdir()))}"
        request, extensions = path.with_suffix(".csr"), path.with_suffix(".ext")
        made = Certificate(path.with_suffix(".crt"), path.with_suffix(".key"))
        extensions.write_text(EXTENSIONS + usage)
        _openssl("req", *EC_KEY, "-subj", f"/CN={subject}", "-keyout", made.key, "-out", request)
        _openssl(
            *("x509", "-req", "-in", request, "-days", str(days), "-extfile", extensions),
            *("-CA", self._own.certificate, "-CAkey", self._own.key, "-CAcreateserial"),
            *("-out", made.certificate),
        )
        return made


def _openssl(*arguments: str | Path) -> None:
    """Run openssl. If it is not installed, skip; in CI, fail."""
    program = shutil.which("openssl")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("openssl is not installed; .ci/run installs it")
        pytest.skip("openssl is not installed")
    subprocess.run([program, *arguments], check=True, capture_output=True)
