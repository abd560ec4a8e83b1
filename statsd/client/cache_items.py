"""The values of the cache that readers return: their keys, how they are computed, empty values."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa

from statsd import keys
from statsd.calculators import Calculator, challenge_solves, crews, dojo_stats, scoreboard, scores
from statsd.calculators.activity import Activity
from statsd.calculators.belts import Belts
from statsd.calculators.catalog import calculator_of, is_statistic
from statsd.calculators.dojo_arrays import PARTS
from statsd.calculators.emojis import Emojis
from statsd.calculators.references import find_dojo, find_scope, find_subject
from statsd.client.pages import Board, check_integers
from statsd.definitions import WINDOWS
from statsd.job import Job

LEAST, LARGEST = -(2**31), 2**31 - 1  # the range of the columns
_ARRAYS = tuple(part.job for part in PARTS)


class Source(NamedTuple):
    """How a value is computed."""

    calculator: Calculator[Any]
    find: Callable[[], "sa.Select[Any]"] | None = None
    """Returns a statement that selects the fields of the job (a `dojo_id`, say). It selects nothing
    where the dojo, module or user does not exist: then nothing is computed. None for a value of
    the whole site."""


class CacheItem(NamedTuple):
    """One value of the cache."""

    key: str
    source: Source | None
    """None where only the daemon computes it, or where no dojo or user can have such an id."""
    empty: Callable[[], Any]
    members: frozenset[str] = frozenset()
    """Members that the reader uses. A cached value without them counts as missing."""

    @property
    def prefix(self) -> str:
        """The beginning of the key, which contains no name: `stats:dojo`."""
        return ":".join(self.key.split(":", 2)[:2])


def item_of(job: object) -> CacheItem:
    """Return the item of a job that has a single key.

    Raises TypeError for other jobs, and for ids that are no integers.
    """
    is_array = isinstance(job, _ARRAYS)
    if not isinstance(job, Job) or not (is_array or is_statistic(job)):
        raise TypeError(f"{job!r} is no statistic")
    if is_array or (calculator := calculator_of(job.kind)).key is None:
        raise TypeError(f"{job!r} has no key of its own; use the reader's method for its kind")
    ids = {name: getattr(job, name) for name in job.__struct_fields__}
    check_integers(**ids)
    source = None
    if _is_storable(*ids.values()):
        source = Source(calculator, partial(find_subject, job) if ids else None)
    return CacheItem(calculator.key(job), source, calculator.empty)


def dojo_stats_of(reference_id: str) -> CacheItem:
    """Return the statistics of a dojo; raises TypeError for a reference that is no text."""
    _check_text(reference_id=reference_id)
    source = None
    if keys.is_storable(reference_id):
        source = Source(dojo_stats.calculator, partial(find_dojo, reference_id))
    return CacheItem(keys.dojo_stats(reference_id), source, dojo_stats.empty)


def scoreboard_of(board: Board) -> CacheItem:
    """Return a scoreboard; raises ValueError for a window that does not exist.

    Like the functions below it raises TypeError for ids that are no integers.
    """
    check_days(board.days)
    return CacheItem(keys.scoreboard(*board), _in_scope(scoreboard, *board[:2]), scoreboard.empty)


def crews_of(board: Board) -> CacheItem:
    """Return the crews of a board; raises ValueError for a window that does not exist."""
    check_days(board.days)
    return CacheItem(keys.crews(*board), _in_scope(crews, *board[:2]), crews.empty)


def scores_of(dojo_id: int, module_index: int | None) -> CacheItem:
    """Return the scores in a dojo or module."""
    key = keys.scores(dojo_id, module_index)
    return CacheItem(key, _in_scope(scores, dojo_id, module_index), scores.empty)


def challenge_solves_of(dojo_id: int, module_index: int) -> CacheItem:
    """Return the solves of a module's challenges."""
    check_integers(module_index=module_index)
    key = keys.challenge_solves(dojo_id, module_index)
    source = _in_scope(challenge_solves, dojo_id, module_index)
    return CacheItem(key, source, challenge_solves.empty)


def belts_of_all() -> CacheItem:
    """Return the belts of all users."""
    return _with_members(item_of(Belts()))


def emojis_of_all() -> CacheItem:
    """Return the emojis of all users, of all dojos."""
    return _with_members(item_of(Emojis()))


def containers_of_all() -> CacheItem:
    """Return the running containers, which only the daemon can count."""
    return CacheItem(keys.CONTAINERS, None, list)


def activity_of(user_id: int) -> CacheItem:
    """Return a user's solves of the last year."""
    return item_of(Activity(user_id))


def _with_members(item: CacheItem) -> CacheItem:
    return item._replace(members=frozenset(item.empty()))


def _in_scope(statistic: Any, dojo_id: int, module_index: int | None) -> Source | None:
    """Return how a statistic of a dojo or module is computed."""
    check_integers(dojo_id=dojo_id)
    numbers = [dojo_id]
    if module_index is not None:
        check_integers(module_index=module_index)
        numbers.append(module_index)
    if not _is_storable(*numbers):
        return None
    return Source(statistic.calculator, partial(find_scope, dojo_id, module_index))


def check_days(days: int) -> None:
    """Raise ValueError for a window that does not exist."""
    check_integers(days=days)
    if days not in WINDOWS:
        raise ValueError(f"days must be one of {WINDOWS}, not {days!r}")


def _is_storable(*numbers: int) -> bool:
    return all(LEAST <= number <= LARGEST for number in numbers)


def _check_text(**given: object) -> None:
    for name, text in given.items():
        if not isinstance(text, str):
            raise TypeError(f"{name} must be a str, not {type(text).__name__}")
