"""Shared by all commands: settings from the environment, errors on stderr, exit codes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from statsd import settings as declarations
from statsd.errors import StatsdError
from statsd.servers.errors import advice, brief, is_of_redis, is_transient, wrong_setting
from statsd.settings import Settings

FAILED, WRONG_USE = 1, 2  # exit codes


@contextmanager
def errors_on_stderr() -> Iterator[None]:
    """Print errors of settings, installation and servers without a traceback, and exit.

    The exit code is WRONG_USE for errors that the operator has to correct, and FAILED if a server
    does not serve. Other errors are raised.
    """
    try:
        yield
    except StatsdError as error:
        for line in str(error).splitlines():
            typer.echo(f"statsd: {line}", err=True)
        raise typer.Exit(WRONG_USE) from None
    except Exception as error:
        # The framework handles a pipe that its reader has closed.
        if isinstance(error, BrokenPipeError) or not is_transient(error):
            raise
        if wrong := wrong_setting(error):
            typer.echo(f"statsd: {wrong}", err=True)
            raise typer.Exit(WRONG_USE) from None
        server = "Redis (REDIS_URL)" if is_of_redis(error) else "PostgreSQL (DATABASE_URL)"
        sentence = f"{server} does not serve: {brief(error)}; {advice(error)}"
        typer.echo(f"statsd: {sentence}", err=True)
        raise typer.Exit(FAILED) from None


def load_settings(*, complete: bool = True) -> Settings:
    """Read the settings as `settings.load` does; warn of variables that are probably misspelt."""
    for sentence in declarations.unknown(os.environ):
        typer.echo(f"statsd: {sentence}", err=True)
    return declarations.load(os.environ, complete=complete)
