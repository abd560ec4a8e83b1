"""Shared by all commands: settings from the environment, errors on stderr, exit codes."""

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import typer

from statsd import settings as declarations
from statsd.errors import StatsdError, UnfitServerError
from statsd.servers.errors import advice, brief, is_of_redis, is_transient, wrong_setting
from statsd.settings import Settings

FAILED, WRONG_USE = 1, 2  # exit codes
OUTPUT, ERRORS = 1, 2  # file descriptors
TELL_TIMEOUT = 1.0  # seconds


def tell(sentence: str, descriptor: int = ERRORS) -> None:
    """Print a sentence if its reader takes it. A daemon starts and ends without a reader, too."""
    line = f"statsd: {sentence}\n".encode(errors="backslashreplace")[: select.PIPE_BUF]
    with suppress(OSError):
        if select.select([], [descriptor], [], TELL_TIMEOUT)[1]:
            os.write(descriptor, line)


@contextmanager
def errors_on_stderr() -> Iterator[None]:
    """Print errors of settings, installation and servers without a traceback, and exit.

    The exit code is WRONG_USE for errors that the operator has to correct, and FAILED if a server
    does not serve. Other errors are raised.
    """
    try:
        yield
    except UnfitServerError as error:
        tell(f"{error}; {error.advice}")
        raise typer.Exit(WRONG_USE if error.is_setting else FAILED) from None
    except StatsdError as error:
        for line in str(error).splitlines():
            tell(line)
        raise typer.Exit(WRONG_USE) from None
    except Exception as error:
        # The framework handles a pipe that its reader has closed.
        if isinstance(error, BrokenPipeError) or not is_transient(error):
            raise
        if wrong := wrong_setting(error):
            tell(wrong)
            raise typer.Exit(WRONG_USE) from None
        server = "Redis (REDIS_URL)" if is_of_redis(error) else "PostgreSQL (DATABASE_URL)"
        tell(f"{server} does not serve: {brief(error)}; {advice(error)}")
        raise typer.Exit(FAILED) from None


def load_settings(*, complete: bool = True) -> Settings:
    """Read the settings as `settings.load` does; warn of variables that are probably misspelt."""
    for sentence in declarations.unknown(os.environ):
        tell(sentence)
    return declarations.load(os.environ, complete=complete)
