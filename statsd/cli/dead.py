"""`statsd dead`: look at the dead letters, replay them, drop them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from statsd.cli.terminal import FAILED, errors_in_a_line, load_settings
from statsd.jobs.dead_letters import DeadLetters, Letter
from statsd.servers.redis_client import redis_client

app = typer.Typer(
    help="Look at what could not be handled, replay it, drop it.", no_args_is_help=True
)

T = TypeVar("T")

Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", help="Letters, as `statsd dead list` names them."),
]
All = Annotated[bool, typer.Option("--all", help="All letters.")]

NONE = "there are no dead letters"
OUTCOMES = {
    "replayed": "replayed",
    "dropped": "dropped",
    "gone": "not there",
    "incomplete": "not replayed, as its data was not kept: publish the event anew, or drop it",
}


def _with_letters(work: Callable[[DeadLetters], Awaitable[T]]) -> T:
    async def connected() -> T:
        async with redis_client(load_settings(complete=False).redis_url) as client:
            return await work(DeadLetters(client))

    with errors_in_a_line():
        return asyncio.run(connected())


@app.command("list")
def list_letters(
    limit: Annotated[int, typer.Option(min=1, help="How many at the most.")] = 50,
) -> None:
    """List the newest letters: id, when, attempts, what it was, why."""

    async def newest(letters: DeadLetters) -> list[Letter]:
        return [letter async for letter in letters.newest(limit)]

    found = _with_letters(newest)
    for letter in found:
        error = letter.text("error").replace("\n", " ")
        when, attempts = letter.text("failed_at"), letter.text("attempts")
        typer.echo(f"{letter.id}  {when}  {attempts:>2}x  {letter.subject}  {error}")
    if not found:
        typer.echo(NONE, err=True)


@app.command()
def show(letter_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Show everything about one letter."""
    letter = _with_letters(lambda letters: letters.get(letter_id))
    if letter is None:
        typer.echo(f"statsd: there is no dead letter {letter_id}; see `statsd dead list`", err=True)
        raise typer.Exit(FAILED)
    for field in letter.fields:
        typer.echo(f"{field}: {letter.text(field)}")


@app.command()
def replay(ids: Ids = None, everything: All = False) -> None:
    """Put letters back to work: events into the stream, refreshes among what is owed."""
    _each(ids, everything, DeadLetters.replay, "replayed")


@app.command()
def drop(ids: Ids = None, everything: All = False) -> None:
    """Remove letters for good."""
    _each(ids, everything, DeadLetters.drop, "dropped")


def _each(
    ids: list[str] | None,
    everything: bool,
    work: Callable[[DeadLetters, str], Awaitable[str]],
    success: str,
) -> None:
    """Do something with the letters chosen, say what became of each; fail if any failed."""
    if bool(ids) == everything:
        raise typer.BadParameter("name letters, or --all")

    async def all_of_them(letters: DeadLetters) -> bool:
        chosen = ids or [letter.id async for letter in letters.newest()]
        well = True
        for letter_id in chosen:
            outcome = await work(letters, letter_id)
            well &= outcome == success
            typer.echo(f"{letter_id}  {OUTCOMES[outcome]}")
        if not chosen:
            typer.echo(NONE, err=True)
        return well

    if not _with_letters(all_of_them):
        raise typer.Exit(FAILED)
