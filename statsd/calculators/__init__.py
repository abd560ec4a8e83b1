"""Calculators say what is true: a few statements over many keys, and pure shaping.

Both halves of the package use them: the daemon awaits the statements, a web application's
reader runs them on a plain connection. They work with SQLAlchemy 1.4 and 2.x.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from statsd.refresh import Refresh, register_kind

if TYPE_CHECKING:
    import sqlalchemy as sa

R = TypeVar("R", bound=Refresh)

Values = dict[str, Any]
"""Cache keys and what is true for them, ready for JSON."""


@dataclass(frozen=True)
class Calculator(Generic[R]):
    """How all refreshes of one kind are answered.

    `every` lists all that exist: its rows are the fields of `refresh`, the busiest first.
    `statements` reads, for many refreshes at once, what is true at `now` (naive UTC), and
    `shape` turns the rows of each statement into the values of each refresh. A refresh with
    no values stands for something that is gone: its keys go.
    """

    refresh: type[R]
    every: Callable[[], "sa.Select[Any]"]
    statements: Callable[[Sequence[R], datetime], Sequence["sa.Select[Any]"]]
    shape: Callable[[Sequence[R], datetime, Sequence[Sequence["sa.Row[Any]"]]], Mapping[R, Values]]
    batch: int = 100

    def __post_init__(self) -> None:
        register_kind(self.refresh)
