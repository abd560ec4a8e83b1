"""Prometheus of the tests' own, and its promtool; both of the distribution."""

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

OFTEN = "200ms"  # instead of what the sample has


def require() -> None:
    """Skip where it is not installed; in CI, fail."""
    missing = [name for name in ("prometheus", "promtool") if shutil.which(name) is None]
    if missing:
        message = f"{missing[0]} is not here: .ci/run installs prometheus"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


def promtool(*arguments: str | Path) -> str:
    """Run it; return what it printed, of which the test's failure is made where it complains."""
    ended = subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, check=False, timeout=DEADLINE
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


class Prometheus:
    """One that runs, as its HTTP API shows it."""

    def __init__(self) -> None:
        self.port = free_port()

    def answers(self) -> bool:
        return get(self.port, "/-/ready")[0] == 200

    def _ask(self, path: str) -> Any:
        status, text = get(self.port, f"/api/v1/{path}")
        assert status == 200, text
        return orjson.loads(text)["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return the labels and values that an expression has now; fail where it is none."""
        found = self._ask(f"query?query={quote(expression)}")["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def value(self, expression: str) -> float:
        """Return what there is one of; 0 where there is none."""
        return sum(value for _, value in self.query(expression))

    def targets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("targets")["activeTargets"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]


@contextmanager
def scraping(port: int, place: Path) -> Iterator[Prometheus]:
    """Let one run with the files of `deploy/`, which scrapes the daemon at a port, often."""
    made = Prometheus()
    sample = (DEPLOY / "prometheus.yml").read_text()
    sample = sample.replace("stats-worker:9464", f"127.0.0.1:{port}").replace("15s", OFTEN)
    (place / "prometheus.yml").write_text(sample)
    shutil.copy(RULES, place)
    with (
        (place / "prometheus.log").open("wb") as log,
        subprocess.Popen(
            [
                "prometheus",
                f"--config.file={place}/prometheus.yml",
                f"--storage.tsdb.path={place}/data",
                f"--web.listen-address=127.0.0.1:{made.port}",
                "--log.level=warn",
            ],
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            eventually(
                lambda: made.answers() or _ended(process, place / "prometheus.log"), "it answers"
            )
            yield made
        finally:
            process.terminate()


def _ended(process: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert process.poll() is None, f"prometheus ended:\n{log.read_text()}"
    return False
