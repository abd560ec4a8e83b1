"""The command line, as an operator uses it."""

import subprocess
import sys
from typing import NamedTuple, Protocol

from tests.support.processes import DEADLINE, environment


class Ended(NamedTuple):
    """What came of a command."""

    code: int
    said: str
    complaint: str
    """What it wrote to standard error."""


class Run(Protocol):
    """Run `statsd` with these arguments; `others` are more variables."""

    def __call__(self, *arguments: str, typed: str | None = None, **others: str) -> Ended: ...


def run_with(variables: dict[str, str]) -> Run:
    """Return what runs `statsd` with these variables."""

    def run(*arguments: str, typed: str | None = None, **others: str) -> Ended:
        ended = subprocess.run(
            [sys.executable, "-m", "statsd", *arguments],
            env=environment(variables | others),
            capture_output=True,
            check=False,
            input=typed,
            text=True,
            timeout=3 * DEADLINE,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return run
