"""A Prometheus server for the tests, and promtool; the distribution installs both."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from tests.support.deploy_files import DEPLOY, RULES
from tests.support.processes import DEADLINE, eventually, free_port, get

SCRAPE_INTERVAL = "200ms"  # the sample configuration has 15s


def require() -> None:
    """Skip the test if Prometheus is not installed; in CI, fail."""
    missing = [name for name in ("prometheus", "promtool") if shutil.which(name) is None]
    if missing:
        message = f"{missing[0]} is not installed: .ci/run installs prometheus"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


def promtool(*arguments: str | Path) -> str:
    """Run promtool; return its output. If it reports a problem, the test fails with the output."""
    ended = subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, check=False, timeout=DEADLINE
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


class Prometheus:
    """The HTTP API of a running Prometheus server."""

    def __init__(self) -> None:
        self.port = free_port()

    def is_ready(self) -> bool:
        """Return whether the server answers queries."""
        return get(self.port, "/-/ready")[0] == 200

    def _ask(self, path: str) -> Any:
        status, text = get(self.port, f"/api/v1/{path}")
        assert status == 200, text
        return orjson.loads(text)["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return the current labels and values of an expression; fail if it is invalid."""
        found = self._ask(f"query?query={quote(expression)}")["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def value(self, expression: str) -> float:
        """Return the sum of the current values of an expression; 0 without values."""
        return sum(value for _, value in self.query(expression))

    def targets(self) -> list[dict[str, Any]]:
        """Return the active scrape targets, as the API describes them."""
        found: list[dict[str, Any]] = self._ask("targets")["activeTargets"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Return the rules of all groups, as the API describes them."""
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]


@contextmanager
def scraping(port: int, folder: Path) -> Iterator[Prometheus]:
    """Run a server with the files of `deploy/`; it scrapes the daemon at `port`."""
    server = Prometheus()
    sample = (DEPLOY / "prometheus.yml").read_text()
    sample = sample.replace("stats-worker:9464", f"127.0.0.1:{port}").replace(
        "15s", SCRAPE_INTERVAL
    )
    (folder / "prometheus.yml").write_text(sample)
    shutil.copy(RULES, folder)
    with (
        (folder / "prometheus.log").open("wb") as log,
        subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{server.port}",
                "--log.level=warn",
            ],
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            eventually(
                lambda: server.is_ready() or _ended(process, folder / "prometheus.log"),
                "Prometheus is ready",
            )
            yield server
        finally:
            process.terminate()


def _ended(process: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert process.poll() is None, f"prometheus ended:\n{log.read_text()}"
    return False
