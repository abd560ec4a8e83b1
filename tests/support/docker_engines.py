"""Docker engines for the tests, apart from an engine that already runs on this machine."""

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.processes import DEADLINE, eventually

IMAGE = "sleeper"
PROGRAM = Path("/bin/sleep").resolve()


def require() -> None:
    """Skip the test if no engine can be started; in CI, fail."""
    missing = [name for name in ("dockerd", "docker") if shutil.which(name) is None]
    if os.geteuid() != 0:
        missing = ["root"]
    if missing:
        message = (
            f"a Docker engine needs {missing[0]}, which is missing: .ci/run installs docker.io"
        )
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


class Engine:
    """A running engine with one image, whose only program is `sleep`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"unix://{folder}/docker.sock"

    def docker(self, *arguments: str, given: bytes = b"") -> str:
        """Run the client; return its output."""
        ended = subprocess.run(
            ["docker", "--host", self.address, *arguments],
            input=given,
            capture_output=True,
            check=False,
            timeout=2 * DEADLINE,
        )
        assert ended.returncode == 0, ended.stderr.decode()
        return ended.stdout.decode().strip()

    def answers(self) -> bool:
        ended = subprocess.run(
            ["docker", "--host", self.address, "version"], capture_output=True, check=False
        )
        return ended.returncode == 0

    def start(self, *labels: str) -> str:
        """Run a container with these labels; return its id."""
        options = [part for label in labels for part in ("--label", label)]
        return self.docker(
            "run", "--detach", "--network=none", *options, IMAGE, str(PROGRAM), "600"
        )

    def stop(self, container: str) -> None:
        self.docker("rm", "--force", container)


@contextmanager
def engine(folder: Path) -> Iterator[Engine]:
    """Run an engine with its files in a folder. The folder's path has to be short."""
    made = Engine(folder)
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [
                "dockerd",
                f"--host={made.address}",
                f"--data-root={folder}/data",
                f"--exec-root={folder}/run",
                f"--pidfile={folder}/pid",
                "--storage-driver=vfs",
                "--bridge=none",
                "--iptables=false",
                "--ip6tables=false",
            ],
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            eventually(
                lambda: made.answers() or _ended(process, folder / "log"),
                "the engine answers",
                2 * DEADLINE,
            )
            made.docker("import", "-", IMAGE, given=_files())
            yield made
            for container in made.docker("ps", "--quiet").split():
                made.stop(container)
        finally:
            process.terminate()


def _ended(process: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert process.poll() is None, f"dockerd ended:\n{log.read_text()}"
    return False


def _files() -> bytes:
    """Return the image as a tar archive: the program, and the libraries it is linked to."""
    linked = subprocess.run(["ldd", PROGRAM], capture_output=True, text=True, check=True)
    words = linked.stdout.split()
    paths = [str(PROGRAM), *(word for word in words if word.startswith("/"))]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", dereference=True) as archive:
        for path in paths:
            archive.add(os.path.realpath(path), arcname=path)
    return packed.getvalue()
