"""Calculators: the SQL statements of each statistic, and a pure function from rows to values.

The daemon awaits the statements; the reader of a web application runs them on a plain
connection. They work with SQLAlchemy 1.4 and 2.x.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Flag, auto
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from statsd.job import Job, Priority, register_kind

if TYPE_CHECKING:
    import sqlalchemy as sa

R = TypeVar("R", bound=Job)

Values = dict[str, Any]
"""Cache keys and their values, ready for JSON."""

Fetch = Callable[["sa.Select[Any]", Mapping[str, Any]], Awaitable[Sequence[Any]]]
"""Runs a statement with parameters and returns its rows, whose columns are attributes."""


class Input(Flag):
    """The data that a statistic is computed from. Each event changes some of it."""

    STRUCTURE = auto()
    """The row of a dojo, its modules, challenges, visibilities and memberships."""
    SOLVES = auto()
    """Solves. In a dojo these are the solves of the challenges that it requires."""
    USERS = auto()
    """The users: their names and websites, and whether they are hidden or deleted."""
    BELTS = auto()
    EMOJIS = auto()
    AWARDS = BELTS | EMOJIS
    BOARDS = auto()
    """The live boards of a dojo. They enqueue what follows from them; handlers do not."""


@dataclass(frozen=True)
class Cost:
    """How much work a statistic is, and so how many of its jobs are computed at a time."""

    batch: int = 100
    """Jobs that are leased together and computed by the same statements."""
    part: int = 0
    """Jobs whose rows are read, shaped and written at a time, for batches whose rows do not fit
    into memory. 0 is the whole batch. Otherwise the first column of each statement is the only
    field of the job, and the rows are in its order."""
    full_pass: bool = False
    """Whether computing one value reads all solves of a dojo, or all awards. After it the job has
    a cooldown, a multiple of the time that it took, and its rows are shaped in a thread."""


@dataclass(frozen=True, kw_only=True)
class Calculator(Generic[R]):
    """The declaration of one statistic.

    A job that `shape` returns no values for stands for something that is gone: its keys are
    deleted.
    """

    job: type[R]
    """Its fields are among `dojo_id` and `user_id`; with none the value is that of the site."""
    every: "sa.Select[Any]"
    """Lists all jobs that exist: its columns are the fields of the job, the busiest first."""
    statements: Sequence["sa.Select[Any]"]
    """Read many jobs at once. They are built once, since building takes longer than running."""
    parameters: Callable[[Sequence[R], datetime], Mapping[str, Any]]
    """Returns the parameters of the statements for some jobs and a moment (naive UTC)."""
    shape: Callable[[Sequence[Sequence["sa.Row[Any]"]]], Mapping[R, Values]]
    """Turns the rows of each statement into the values of each job."""
    empty: Callable[[], Any]
    """Returns the value where there is nothing to count; one key's value, if there are several."""
    depends_on: Input
    """The data whose changes make the values stale."""
    key: Callable[[R], str] | None = None
    """Returns the only cache key of a job. None where a job has several keys, or where its key
    is not known from its fields."""
    changes: (
        Callable[[Sequence[Sequence["sa.Row[Any]"]], datetime], Mapping[R, datetime]] | None
    ) = None
    """Returns, from the same rows and moment, when values next change with time alone."""
    known_parameters: (
        Callable[[Sequence[R], datetime, Mapping[R, Sequence[int]]], Mapping[str, Any]] | None
    ) = None
    """Returns the parameters where it is known, for some jobs, among which challenges the solves
    are. None: the statistic has no use for it."""
    record: Callable[[Sequence[Sequence["sa.Row[Any]"]]], Mapping[R, Mapping[str, Any]]] | None = (
        None
    )
    """Returns, from the same rows, what the scripts keep of each job beside its values: see
    `statsd/boards/lua/hooks.lua`."""
    cost: Cost = Cost()

    def __post_init__(self) -> None:
        register_kind(self.job)

    @property
    def is_large(self) -> bool:
        """Whether the value grows with its dojo and is not urgent: load shedding puts it off."""
        return self.job.priority >= Priority.EXPORT

    def compute(self, connection: Any, jobs: Sequence[R], now: datetime) -> Mapping[R, Values]:
        """Return the values of jobs at `now` (naive UTC), on a plain SQLAlchemy connection.

        Where there are several statements, the isolation level of the connection should be
        REPEATABLE READ.
        """
        parameters = self.parameters(jobs, now)
        return self.shape([connection.execute(each, parameters).all() for each in self.statements])

    async def acompute(self, fetch: Fetch, jobs: Sequence[R], now: datetime) -> Mapping[R, Values]:
        """As `compute`, with statements run by `fetch`, one after another."""
        return self.shape(await self.read(fetch, jobs, now))

    async def read(
        self, fetch: Fetch, jobs: Sequence[R], now: datetime
    ) -> Sequence[Sequence["sa.Row[Any]"]]:
        """Return the rows of each statement, for `shape` and `changes`."""
        parameters = self.parameters(jobs, now)
        return [await fetch(each, parameters) for each in self.statements]


def fetch_with(connection: Any) -> Fetch:
    """Return a function that runs statements on an AsyncConnection."""

    async def fetch(statement: "sa.Select[Any]", parameters: Mapping[str, Any]) -> Sequence[Any]:
        return list((await connection.execute(statement, parameters)).all())

    return fetch
