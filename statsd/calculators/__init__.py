"""Calculators say what is true: a few statements over many keys, and pure shaping.

Both halves of the package use them: the daemon awaits the statements, a web application's
reader runs them on a plain connection. They work with SQLAlchemy 1.4 and 2.x.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from statsd.job import Job, Priority, register_kind

if TYPE_CHECKING:
    import sqlalchemy as sa

R = TypeVar("R", bound=Job)

EXPORT_INTERVAL = 0.5  # seconds between two answers of what is as large as its dojo

Values = dict[str, Any]
"""Cache keys and what is true for them, ready for JSON."""

Ask = Callable[["sa.Select[Any]", Mapping[str, Any]], Awaitable[Sequence[Any]]]
"""Answers a statement with its rows, whose columns are attributes."""


@dataclass(frozen=True)
class Calculator(Generic[R]):
    """How all refreshes of one kind are answered.

    `every` lists all that exist: its rows are the fields of `job`, the busiest first.
    `statements` read, for many refreshes at once, what is true at a moment. They are built
    once, which costs more than many of them take to run; `parameters` gives what they are
    bound to for some refreshes and a moment (naive UTC). `shape` turns the rows of each
    statement into the values of each refresh. A refresh with no values stands for something
    that is gone: its keys go. What is `costly`, since it reads all solves of a dojo, rests after
    each answer for a multiple of what that took, and in any case for `interval` seconds; unless a
    page waits for it.
    """

    job: type[R]
    every: "sa.Select[Any]"
    statements: Sequence["sa.Select[Any]"]
    parameters: Callable[[Sequence[R], datetime], Mapping[str, Any]]
    shape: Callable[[Sequence[Sequence["sa.Row[Any]"]]], Mapping[R, Values]]
    batch: int = 100
    costly: bool = False
    interval: float = 0.0
    changes: (
        Callable[[Sequence[Sequence["sa.Row[Any]"]], datetime], Mapping[R, datetime]] | None
    ) = None
    """Says, from the same rows and moment, when answers next change by themselves."""
    together: int = 0
    """How many are read, shaped and written together, of a batch whose rows are too many for that;
    0: all. The rows of each statement then are in the order of their first column, which is the
    field of the refresh."""

    def __post_init__(self) -> None:
        register_kind(self.job)

    @property
    def is_large(self) -> bool:
        """Whether this can wait: it takes as long as a dojo is large, and is not urgent."""
        return self.job.priority >= Priority.EXPORT

    def compute(self, connection: Any, wanted: Sequence[R], now: datetime) -> Mapping[R, Values]:
        """Return what is true at `now`, on a plain SQLAlchemy connection.

        For one answer from several statements, the connection's isolation level should be
        REPEATABLE READ.
        """
        parameters = self.parameters(wanted, now)
        return self.shape([connection.execute(each, parameters).all() for each in self.statements])

    async def acompute(self, ask: Ask, wanted: Sequence[R], now: datetime) -> Mapping[R, Values]:
        """As `compute`, from what answers statements one after another."""
        return self.shape(await self.read(ask, wanted, now))

    async def read(
        self, ask: Ask, wanted: Sequence[R], now: datetime
    ) -> Sequence[Sequence["sa.Row[Any]"]]:
        """Return the rows of each statement, for `shape` and `changes`."""
        parameters = self.parameters(wanted, now)
        return [await ask(each, parameters) for each in self.statements]


def through(connection: Any) -> Ask:
    """Return what answers statements, on an AsyncConnection."""

    async def ask(statement: "sa.Select[Any]", parameters: Mapping[str, Any]) -> Sequence[Any]:
        return list((await connection.execute(statement, parameters)).all())

    return ask
