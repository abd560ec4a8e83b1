"""`statsd doctor`: check the whole installation."""

import asyncio
import os
from typing import Annotated

import orjson
import typer

from statsd import settings as declarations
from statsd.cli.terminal import FAILED, errors_on_stderr
from statsd.servers.finding import Finding, Level

COLOURS = {
    Level.OK: typer.colors.GREEN,
    Level.WARNING: typer.colors.YELLOW,
    Level.DANGER: typer.colors.RED,
}
WIDTH = max(map(len, Level))


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON array of objects, for programs.")
    ] = False,
) -> None:
    """Check the whole installation, with advice for each problem.

    It checks settings, Redis, the stream, PostgreSQL and clocks. Each check is a line: ok, warning
    or danger, the finding, and the advice. It waits a few seconds for a server that is gone, and
    goes on with the other checks. Nothing is changed. The exit code is 1 if there is a danger,
    else 0.
    """
    with errors_on_stderr():
        findings = asyncio.run(_examined(declarations.load(os.environ), echo=not as_json))
    if as_json:
        array = [finding._asdict() for finding in findings]
        typer.echo(orjson.dumps(array, option=orjson.OPT_INDENT_2).decode())
    if any(finding.level is Level.DANGER for finding in findings):
        raise typer.Exit(FAILED)


async def _examined(settings: declarations.Settings, *, echo: bool) -> list[Finding]:
    from statsd.cli.doctor.checks import examine  # noqa: PLC0415 - other commands start faster without it

    findings = []
    async for finding in examine(settings, os.environ):
        findings.append(finding)
        if echo:
            typer.echo(_line(finding))
    return findings


def _line(finding: Finding) -> str:
    level = typer.style(f"{finding.level:<{WIDTH}}", fg=COLOURS[finding.level])
    advice = f" -> {finding.advice}" if finding.advice else ""
    return f"{level}  {finding.subject}: {finding.sentence}{advice}"
