"""Running commands as an operator does."""

import subprocess
import sys
from typing import NamedTuple, Protocol

from tests.support.processes import DEADLINE, environment


class Result(NamedTuple):
    """The result of a command."""

    code: int
    output: str
    errors: str
    """Its output on standard error."""


class Run(Protocol):
    """Run `statsd` with arguments; `stdin` is its standard input, `others` are more variables."""

    def __call__(self, *arguments: str, stdin: str | None = None, **others: str) -> Result: ...


def run_with(variables: dict[str, str]) -> Run:
    """Return a function that runs `statsd` with these variables."""

    def run(*arguments: str, stdin: str | None = None, **others: str) -> Result:
        ended = subprocess.run(
            [sys.executable, "-m", "statsd", *arguments],
            env=environment(variables | others),
            capture_output=True,
            check=False,
            input=stdin,
            text=True,
            timeout=3 * DEADLINE,
        )
        return Result(ended.returncode, ended.stdout, ended.stderr)

    return run
