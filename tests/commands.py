"""Running a command as an operator does."""

import subprocess
import sys
from collections.abc import Callable, Mapping

from tests.support import environment

Run = Callable[..., tuple[int, str]]
"""Takes arguments; returns the exit code, and what the command said."""


def running(variables: Mapping[str, str]) -> Run:
    """Return how to run `statsd` with these settings."""

    def run(*arguments: str) -> tuple[int, str]:
        ended = subprocess.run(
            [sys.executable, "-m", "statsd", *arguments],
            env=environment(variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return ended.returncode, ended.stdout

    return run
