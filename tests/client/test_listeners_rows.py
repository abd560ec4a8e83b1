"""The events of changed rows: the contract's events for every change of a number."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from statsd.events import (
    ActivityUpdate,
    BeltsUpdate,
    ChallengeSolve,
    EmojisUpdate,
    Event,
    UserUpdate,
)
from tests.client import ctfd

Run = Callable[[Callable[[Any], object]], Awaitable[set[Event]]]

# These tests give objects the type of another class on purpose, and SQLAlchemy warns.
other_type = pytest.mark.filterwarnings("ignore:Flushing object:sqlalchemy.exc.SAWarning")


async def test_a_solve_is_a_challenge_solve_with_its_date(run: Run) -> None:
    solve = ctfd.Solves(user_id=1, challenge_id=2, provided="flag")
    assert await run(lambda session: session.add(solve)) == {
        ChallengeSolve(1, 2, "2024-01-02T03:04:05")
    }


async def test_a_solve_made_of_objects_gets_its_ids_in_the_flush(run: Run) -> None:
    def work(session: Any) -> None:
        session.add(ctfd.Solves(user=ctfd.Users(id=9), challenge=ctfd.Challenges(id=9)))

    assert await run(work) == {ChallengeSolve(9, 9, "2024-01-02T03:04:05")}


async def test_ids_given_as_text_are_published_as_numbers(run: Run) -> None:
    def work(session: Any) -> None:
        if session.bind.dialect.driver == "asyncpg":  # it takes numbers only
            session.add(ctfd.Solves(user_id=1, challenge_id=3))
        else:
            session.add(ctfd.Solves(user_id="1", challenge_id="3"))

    assert await run(work) == {ChallengeSolve(1, 3, "2024-01-02T03:04:05")}


async def test_other_submissions_are_nothing(run: Run) -> None:
    def work(session: Any) -> None:
        session.add_all([ctfd.Fails(user_id=1, challenge_id=1), ctfd.Solves(challenge_id=1)])
        session.delete(session.get(ctfd.Submissions, ctfd.FAIL))

    assert await run(work) == set()


async def test_a_solve_that_goes_is_a_solve_and_an_activity(run: Run) -> None:
    assert await run(lambda session: session.delete(session.get(ctfd.Solves, ctfd.SOLVE))) == {
        ChallengeSolve(2, 2, "2024-01-02T03:04:05"),
        ActivityUpdate(2),
    }


async def test_a_solve_that_moves_counts_for_both_users(run: Run) -> None:
    def work(session: Any) -> None:
        session.get(ctfd.Submissions, ctfd.SOLVE).user_id = 1

    assert await run(work) == {
        ChallengeSolve(2, 2, "2024-01-02T03:04:05"),
        ChallengeSolve(1, 2, "2024-01-02T03:04:05"),
        ActivityUpdate(1),
        ActivityUpdate(2),
    }


async def test_a_solve_that_moves_with_its_relationship_counts_too(run: Run) -> None:
    def work(session: Any) -> None:
        session.get(ctfd.Solves, ctfd.SOLVE).challenge = session.get(ctfd.Challenges, 3)

    assert await run(work) == {
        ChallengeSolve(2, 2, "2024-01-02T03:04:05"),
        ChallengeSolve(2, 3, "2024-01-02T03:04:05"),
        ActivityUpdate(2),
    }


async def test_a_solve_whose_date_changes_is_published_with_both_dates(run: Run) -> None:
    def work(session: Any) -> None:
        session.get(ctfd.Solves, ctfd.SOLVE).date += timedelta(days=1)

    assert await run(work) == {
        ChallengeSolve(2, 2, "2024-01-02T03:04:05"),
        ChallengeSolve(2, 2, "2024-01-03T03:04:05"),
        ActivityUpdate(2),
    }


@other_type
async def test_a_submission_that_becomes_a_solve_is_one(run: Run) -> None:
    def work(session: Any) -> None:
        session.get(ctfd.Submissions, ctfd.FAIL).type = "correct"

    assert await run(work) == {ChallengeSolve(2, 1, "2024-01-02T03:04:05"), ActivityUpdate(2)}


async def test_old_values_need_not_be_loaded(run: Run) -> None:
    def work(session: Any) -> None:
        solve, dojo = session.get(ctfd.Solves, ctfd.SOLVE), session.get(ctfd.Dojos, ctfd.DOJO)
        session.expire_all()
        solve.user_id = 3
        session.delete(dojo)

    assert await run(work) >= {
        ChallengeSolve(2, 2, "2024-01-02T03:04:05"),
        ChallengeSolve(3, 2, "2024-01-02T03:04:05"),
        *ctfd.changed(ctfd.DOJO, 0, 1),
    }


async def test_a_column_that_is_no_business_of_ours_is_nothing(run: Run) -> None:
    def work(session: Any) -> None:
        session.get(ctfd.Solves, ctfd.SOLVE).provided = "another"
        session.get(ctfd.Users, 1).language = "de"
        session.get(ctfd.Dojos, ctfd.DOJO).description = "A dojo."
        session.get(ctfd.DojoModules, (ctfd.DOJO, 0)).description = "A module."
        session.get(ctfd.Awards, ctfd.BELT).value = 3
        session.get(ctfd.DojoUsers, (ctfd.DOJO, 2)).token = "x"  # noqa: S105
        session.get(ctfd.Pages, 1).title = "home"
        session.add_all([ctfd.Pages(title="new"), ctfd.Users(name="new"), ctfd.Challenges()])

    assert await run(work) == set()


async def test_the_same_value_again_is_nothing_loaded_or_not(run: Run) -> None:
    def work(session: Any) -> None:
        loaded, expired = session.get(ctfd.Users, 1), session.get(ctfd.Users, 2)
        session.expire(expired)
        loaded.name, expired.name = "user 1", "user 2"
        session.get(ctfd.Dojos, ctfd.DOJO).data = {"type": "public"}

    assert await run(work) == set()


async def test_a_changed_dojo_is_the_dojo_its_modules_and_awards(run: Run) -> None:
    def work(session: Any) -> None:
        session.get(ctfd.Dojos, ctfd.DOJO).data = {"type": "course"}

    expected = ctfd.changed(ctfd.DOJO, 0, 1) | {EmojisUpdate(), BeltsUpdate()}
    assert await run(work) == expected


async def test_a_new_dojo_is_published_with_its_modules(run: Run) -> None:
    modules = [ctfd.DojoModules(module_index=index) for index in range(2)]
    dojo = ctfd.Dojos(dojo_id=-9, slug="new", modules=modules)
    assert await run(lambda session: session.add(dojo)) == ctfd.changed(-9, 0, 1) | {
        EmojisUpdate(),
        BeltsUpdate(),
    }


async def test_a_deleted_dojo_is_published_with_its_former_modules(run: Run) -> None:
    assert await run(lambda session: session.delete(session.get(ctfd.Dojos, ctfd.DOJO))) == (
        ctfd.changed(ctfd.DOJO, 0, 1) | {EmojisUpdate(), BeltsUpdate()}
    )


async def test_new_and_deleted_modules_are_published(run: Run) -> None:
    def work(session: Any) -> None:
        session.delete(session.get(ctfd.DojoModules, (ctfd.DOJO, 1)))
        session.add(ctfd.DojoModules(dojo_id=ctfd.DOJO, module_index=4))

    assert await run(work) == ctfd.changed(ctfd.DOJO, 0, 1, 4)


async def test_an_orphaned_module_is_deleted_and_published(run: Run) -> None:
    def work(session: Any) -> None:
        dojo = session.get(ctfd.Dojos, ctfd.DOJO)
        dojo.modules.remove(dojo.modules[1])

    assert await run(work) == ctfd.changed(ctfd.DOJO, 0, 1)


async def test_a_module_moved_to_another_dojo_changes_both(run: Run) -> None:
    def work(session: Any) -> None:
        module = session.get(ctfd.DojoModules, (ctfd.DOJO, 1))
        module.dojo_id, module.module_index = ctfd.OTHER_DOJO, 5

    assert await run(work) == ctfd.changed(ctfd.DOJO, 0, 1) | ctfd.changed(ctfd.OTHER_DOJO, 0, 5)


async def test_a_deleted_row_replaced_by_a_new_one_is_a_change(run: Run) -> None:
    def work(session: Any) -> None:
        session.delete(session.get(ctfd.DojoUsers, (ctfd.DOJO, 2)))
        session.delete(session.get(ctfd.Submissions, ctfd.SOLVE))
        session.add(ctfd.DojoUsers(dojo_id=ctfd.DOJO, user_id=2, type="admin"))
        session.add(ctfd.Solves(id=ctfd.SOLVE, user_id=3, challenge_id=3))

    assert await run(work) == ctfd.changed(ctfd.DOJO, 0, 1) | {
        ChallengeSolve(2, 2, "2024-01-02T03:04:05"),
        ChallengeSolve(3, 3, "2024-01-02T03:04:05"),
        ActivityUpdate(2),
        ActivityUpdate(3),
    }


async def test_a_challenge_of_a_dojo_and_its_visibility_change_the_dojo(run: Run) -> None:
    def required(session: Any) -> None:
        session.get(ctfd.DojoChallenges, (ctfd.DOJO, 0, 0)).required = False

    def visible(session: Any) -> None:
        session.get(ctfd.DojoChallenges, (ctfd.DOJO, 0, 0)).visibility.stop = ctfd.LONG_AGO

    def hidden(session: Any) -> None:
        session.get(ctfd.DojoChallenges, (ctfd.DOJO, 0, 0)).visibility = None

    def gone(session: Any) -> None:
        session.delete(session.get(ctfd.DojoChallenges, (ctfd.DOJO, 0, 0)))

    for work in (required, visible, hidden, gone):
        assert await run(work) == ctfd.changed(ctfd.DOJO, 0, 1), work


async def test_a_new_changed_or_deleted_membership_changes_the_dojo(run: Run) -> None:
    def join(session: Any) -> None:
        session.add(ctfd.DojoUsers(dojo_id=ctfd.OTHER_DOJO, user_id=1, type="member"))

    def rise(session: Any) -> None:
        session.get(ctfd.DojoUsers, (ctfd.OTHER_DOJO, 1)).type = "admin"

    def leave(session: Any) -> None:
        session.delete(session.get(ctfd.DojoUsers, (ctfd.OTHER_DOJO, 1)))

    for work in (join, rise, leave):
        assert await run(work) == ctfd.changed(ctfd.OTHER_DOJO, 0), work


async def test_a_deleted_challenge_changes_its_dojos_and_its_solvers(run: Run) -> None:
    assert await run(lambda session: session.delete(session.get(ctfd.Challenges, 2))) == {
        *ctfd.changed(ctfd.DOJO, 0, 1),
        ActivityUpdate(2),
    }


@other_type
async def test_a_renamed_hidden_promoted_or_deleted_user_is_published(run: Run) -> None:
    def change(name: str, value: object) -> Callable[[Any], None]:
        return lambda session: setattr(session.get(ctfd.Users, 1), name, value)

    for work in (
        change("name", "other"),
        change("email", "a@example.com"),
        change("site", "https://example.com"),
        change("hidden", True),
        change("type", "admin"),
    ):
        assert await run(work) == {UserUpdate(1)}
    assert await run(lambda session: session.delete(session.get(ctfd.Users, 3))) == {UserUpdate(3)}


@other_type
async def test_an_award_is_published_by_its_old_and_its_new_type(run: Run) -> None:
    async def expect(work: Callable[[Any], object], *events: Event) -> None:
        assert await run(work) == set(events)

    await expect(lambda session: session.add(ctfd.Belts(user_id=1, name="blue")), BeltsUpdate())
    await expect(lambda session: session.add(ctfd.Emojis(user_id=1, name="x")), EmojisUpdate())
    await expect(lambda session: session.add(ctfd.Awards(user_id=1, name="x")))
    await expect(
        lambda session: setattr(session.get(ctfd.Awards, ctfd.BELT), "name", "red"), BeltsUpdate()
    )
    await expect(
        lambda session: setattr(session.get(ctfd.Awards, ctfd.BELT), "type", "emoji"),
        BeltsUpdate(),
        EmojisUpdate(),
    )
    await expect(
        lambda session: session.delete(session.get(ctfd.Awards, ctfd.EMOJI)), EmojisUpdate()
    )
