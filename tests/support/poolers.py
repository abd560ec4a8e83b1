"""pgbouncer in transaction mode, installed by the system: no wheel contains it."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from statsd.dev import binaries
from tests.support.processes import eventually


@contextmanager
def pgbouncer(database: str, directory: Path) -> Iterator[str]:
    """Yield the database's URL through pgbouncer. If that is not installed, skip; in CI, fail."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("pgbouncer is not installed; .ci/run installs it")
        pytest.skip("pgbouncer is not installed")
    url = sa.make_url(database)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = directory / "pgbouncer.ini"
    config.write_text(
        "[databases]\n"
        f"{url.database} = host={url.host} port={url.port} user={url.username}\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        "auth_type = any\npool_mode = transaction\ndefault_pool_size = 4\n"
        "server_login_retry = 1\n"  # seconds; after a crash of the server it would wait for 15
    )
    arguments = [program, str(config)]
    if account := binaries.unprivileged_account():
        arguments[1:1] = ["-u", account.pw_name]
    log = (directory / "pgbouncer.log").open("wb")
    with log, subprocess.Popen(arguments, stdout=log, stderr=log) as process:
        try:
            eventually(lambda: _listens(port), "pgbouncer listens")
            yield str(url.set(port=port))
        finally:
            process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
