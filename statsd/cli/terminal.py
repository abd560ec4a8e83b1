"""What all commands share: settings from the environment, errors in a line, exit codes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import redis
import typer

from statsd import settings as declarations
from statsd.errors import StatsdError
from statsd.servers.outages import brief, is_transient
from statsd.settings import Settings

FAILED, WRONG_USE = 1, 2  # exit codes


@contextmanager
def errors_in_a_line() -> Iterator[None]:
    """Show what is wrong with settings, installation or servers, without a traceback."""
    try:
        yield
    except StatsdError as error:
        for line in str(error).splitlines():
            typer.echo(f"statsd: {line}", err=True)
        raise typer.Exit(WRONG_USE) from None
    except Exception as error:
        # A pipe that was closed by whoever read our output is the framework's to handle.
        if isinstance(error, BrokenPipeError) or not is_transient(error):
            raise
        is_redis = isinstance(error, redis.RedisError)
        server = "Redis (REDIS_URL)" if is_redis else "PostgreSQL (DATABASE_URL)"
        sentence = f"{server} does not serve: {brief(error)}; `statsd doctor` looks at all of it"
        typer.echo(f"statsd: {sentence}", err=True)
        raise typer.Exit(FAILED) from None


def load_settings(*, complete: bool = True) -> Settings:
    """Read the settings, as `settings.load`; point at variables that are most likely misspelt."""
    for sentence in declarations.unknown(os.environ):
        typer.echo(f"statsd: {sentence}", err=True)
    return declarations.load(os.environ, complete=complete)
