import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

import statsd.handlers
from statsd.errors import DuplicateError
from statsd.events import (
    ChallengeSolve,
    DojoStatsUpdate,
    Event,
    ScoreboardUpdate,
    ScoresUpdate,
    UserUpdate,
)
from statsd.handlers.registry import Lookup, handler_of, handles
from statsd.jobs.pending import PendingJob

SECOND_HANDLER = """
from statsd.events import ChallengeSolve
from statsd.handlers.registry import handles


@handles(ChallengeSolve)
async def also_solved(events, lookup):
    return []
"""


class Handled(Event, frozen=True):
    type: ClassVar[str] = "handled_in_this_test"


class Unhandled(Event, frozen=True):
    type: ClassVar[str] = "unhandled_in_this_test"


@handles(Handled)
async def first_handler(_events: Sequence[Handled], _lookup: Lookup) -> Iterable[PendingJob]:
    return []


async def second_handler(_events: Sequence[Handled], _lookup: Lookup) -> Iterable[PendingJob]:
    return []


def test_a_handler_is_found_by_the_type_of_its_events() -> None:
    assert handler_of(Handled) is first_handler


def test_a_type_without_a_handler_has_none() -> None:
    assert handler_of(Unhandled) is None


def test_a_second_handler_of_a_type_is_refused_and_both_are_named() -> None:
    with pytest.raises(DuplicateError) as refused:
        handles(Handled)(second_handler)
    for name in ("handled_in_this_test", "first_handler", "second_handler"):
        assert name in str(refused.value)
    assert handler_of(Handled) is first_handler


def test_a_module_with_a_second_handler_cannot_be_imported(tmp_path: Path) -> None:
    path = tmp_path / "second.py"
    path.write_text(SECOND_HANDLER)
    spec = importlib.util.spec_from_file_location("second", path)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(DuplicateError, match=r"challenge_solved.*also_solved"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_the_package_of_handlers_registers_all_of_them() -> None:
    handlers = statsd.handlers
    assert handler_of(ChallengeSolve) is handlers.solve.challenge_solved
    assert handler_of(DojoStatsUpdate) is handlers.dojo.dojo_changed
    assert handler_of(UserUpdate) is handlers.user.user_changed
    assert handler_of(ScoreboardUpdate) is handlers.scoreboard.scoreboard_changed
    assert handler_of(ScoresUpdate) is handlers.scores.scores_changed
