"""`statsd dead`: list, show, replay and drop dead letters."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from statsd.cli.terminal import FAILED, errors_on_stderr, load_settings, tell
from statsd.jobs.dead_letters import DeadLetters, Letter
from statsd.servers.redis_fitness import usable_redis

app = typer.Typer(
    help="List, show, replay and drop dead letters: events and jobs that failed for good.",
    no_args_is_help=True,
)

T = TypeVar("T")

Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", help="Ids of dead letters, from `statsd dead list`."),
]
All = Annotated[bool, typer.Option("--all", help="All dead letters.")]

NONE = "there are no dead letters"
OUTCOMES = {
    "replayed": "replayed",
    "dropped": "dropped",
    "gone": "not found",
    "incomplete": "not replayed, as its data was not kept: publish the event again, or drop it",
}


def _with_dead_letters(work: Callable[[DeadLetters], Awaitable[T]]) -> T:
    """Run a coroutine function with the dead letters; show errors without a traceback."""

    async def connected() -> T:
        async with usable_redis(load_settings(complete=False).redis_url) as client:
            return await work(DeadLetters(client))

    with errors_on_stderr():
        return asyncio.run(connected())


@app.command("list")
def list_letters(
    limit: Annotated[int, typer.Option(min=1, help="List so many at the most.")] = 50,
) -> None:
    """List the newest dead letters.

    Each line has the id, the time, the attempts, the event or job, and the error.
    """

    async def newest(letters: DeadLetters) -> list[Letter]:
        return [letter async for letter in letters.newest(limit)]

    listed = _with_dead_letters(newest)
    for letter in listed:
        error = letter.text("error").replace("\n", " ")
        when, attempts = letter.text("failed_at"), letter.text("attempts")
        typer.echo(f"{letter.id}  {when}  {attempts:>2}x  {letter.subject}  {error}")
    if not listed:
        typer.echo(NONE, err=True)


@app.command()
def show(letter_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Show all fields of one dead letter."""
    letter = _with_dead_letters(lambda letters: letters.get(letter_id))
    if letter is None:
        tell(f"there is no dead letter {letter_id}; see `statsd dead list`")
        raise typer.Exit(FAILED)
    for field in letter.fields:
        typer.echo(f"{field}: {letter.text(field)}")


@app.command()
def replay(ids: Ids = None, everything: All = False) -> None:
    """Put dead letters back to work.

    Events go back into the stream, jobs into the queue.
    """
    _apply(ids, everything, DeadLetters.replay, "replayed")


@app.command()
def drop(ids: Ids = None, everything: All = False) -> None:
    """Remove dead letters for good."""
    _apply(ids, everything, DeadLetters.drop, "dropped")


def _apply(
    ids: list[str] | None,
    everything: bool,
    work: Callable[[DeadLetters, str], Awaitable[str]],
    success: str,
) -> None:
    """Apply `work` to each chosen dead letter and print the outcome; fail if any failed."""
    if bool(ids) == everything:
        raise typer.BadParameter("give ids of dead letters, or --all")

    async def apply_to_chosen(letters: DeadLetters) -> bool:
        chosen = ids or [letter.id async for letter in letters.newest()]
        succeeded = True
        for letter_id in chosen:
            outcome = await work(letters, letter_id)
            succeeded &= outcome == success
            typer.echo(f"{letter_id}  {OUTCOMES[outcome]}")
        if not chosen:
            typer.echo(NONE, err=True)
        return succeeded

    if not _with_dead_letters(apply_to_chosen):
        raise typer.Exit(FAILED)
