"""`statsd doctor`: look at the whole installation."""

import asyncio
import os
from typing import Annotated

import orjson
import typer

from statsd import settings as declarations
from statsd.cli.doctor.finding import Finding, Level
from statsd.cli.terminal import FAILED, errors_in_a_line

COLOURS = {
    Level.OK: typer.colors.GREEN,
    Level.WARNING: typer.colors.YELLOW,
    Level.DANGER: typer.colors.RED,
}
WIDTH = max(map(len, Level))


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="An array of objects, for programs.")
    ] = False,
) -> None:
    """Look at the whole installation, and say what to do about it.

    Settings, Redis, the stream, PostgreSQL and clocks, a line for each check: ok, warning or
    danger, what was found, and what to do next. A server that is gone is waited for by seconds
    only, and the rest is looked at. Nothing is changed. The exit code is 1 where there is a
    danger, else 0.
    """
    with errors_in_a_line():
        findings = asyncio.run(_examined(declarations.load(os.environ), tell=not as_json))
    if as_json:
        array = [finding._asdict() for finding in findings]
        typer.echo(orjson.dumps(array, option=orjson.OPT_INDENT_2).decode())
    if any(finding.level is Level.DANGER for finding in findings):
        raise typer.Exit(FAILED)


async def _examined(settings: declarations.Settings, *, tell: bool) -> list[Finding]:
    from statsd.cli.doctor.checks import examine  # noqa: PLC0415 - other commands start faster without it

    findings = []
    async for finding in examine(settings, os.environ):
        findings.append(finding)
        if tell:
            typer.echo(_line(finding))
    return findings


def _line(finding: Finding) -> str:
    mark = typer.style(f"{finding.level:<{WIDTH}}", fg=COLOURS[finding.level])
    advice = f" -> {finding.advice}" if finding.advice else ""
    return f"{mark}  {finding.subject}: {finding.sentence}{advice}"
