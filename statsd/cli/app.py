"""The command `statsd`, with all its subcommands."""

import asyncio
import logging
import sys
from typing import Annotated

import typer

import statsd
from statsd import settings as declarations
from statsd.cli import dead, publish, reconcile, status, verify, why
from statsd.cli.doctor import command
from statsd.cli.terminal import FAILED, OUTPUT, errors_on_stderr, load_settings, tell
from statsd.errors import StatsdError
from statsd.observability import logs

app = typer.Typer(
    help="Statistics for learning platforms: a daemon that keeps cached values exact.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

log = logging.getLogger(__name__)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dojo-statsd {statsd.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _show: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run() -> None:
    """Run a daemon until SIGTERM or SIGINT.

    Settings come from the environment: see `statsd settings`.
    """
    with errors_on_stderr():
        settings = load_settings()
        if not settings.enabled:
            tell("BACKGROUND_STATS_ENABLED=0, so no daemon runs", OUTPUT)
            return
        from statsd import daemon  # noqa: PLC0415 - the other commands start faster without it

        logs.configure(settings.log_level, settings.log_format)
        try:
            daemon.run(settings)
        except StatsdError:
            raise
        except Exception:
            log.critical("the daemon failed", exc_info=True)
            raise typer.Exit(FAILED) from None


@app.command("settings")
def show_settings(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table of docs/settings.md, with defaults.")
    ] = False,
) -> None:
    """List the current settings, with passwords masked."""
    with errors_on_stderr():
        if markdown:
            typer.echo(declarations.table())
            return
        for item in declarations.declared(load_settings(complete=False)):
            unit = f" {item.unit}" if item.unit else ""
            typer.echo(f"{item.variable}={item.value}{unit}\n    {item.sentence}")


@app.command()
def health() -> None:
    """Check this host's daemon and its servers.

    The exit code is 0 if the daemon consumes events and both servers answer, else 1.
    """
    from statsd.observability.health_check import trouble  # noqa: PLC0415 - as above

    with errors_on_stderr():
        reasons = asyncio.run(trouble(load_settings()))
    for reason in reasons:
        typer.echo(reason)
    if reasons:
        sys.exit(1)
    typer.echo("well")


# The help lists them in this order.
app.command("status")(status.show_status)
app.command("top")(status.top)
app.command("why")(why.show_why)
app.command("doctor")(command.doctor)
app.command("verify")(verify.verify)
app.command("reconcile")(reconcile.reconcile)
app.command("publish")(publish.publish)
app.add_typer(dead.app, name="dead")


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=0, help="How long to run; 0: until Ctrl-C.")] = 30.0,
    students: Annotated[
        int, typer.Option(min=1, max=64, help="Number of students who solve at the same time.")
    ] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the sample data and the solves.")] = 0,
) -> None:
    """Show a daemon at work, on servers started for the demo.

    It has sample data, and students whose solves reach the cache while you watch.
    """
    from statsd.dev.demo import run as show  # noqa: PLC0415 - as above

    with errors_on_stderr():
        show.run(seconds=seconds, students=students, seed=seed)
