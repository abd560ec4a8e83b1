"""Statements that a session executes past its unit of work."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert

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

SOLVED_AT = "2024-01-02T03:04:05"

since_2_0 = pytest.mark.skipif(sa.__version__.startswith("1."), reason="a form that 2.0 brought")


async def test_an_update_publishes_only_the_rows_it_changes(run: Run) -> None:
    users = ctfd.Users
    assert await run(
        lambda session: session.execute(
            sa.update(users).where(users.id.in_([1, 2])).values(name="user 1")
        )
    ) == {UserUpdate(2)}
    assert await run(lambda session: session.query(users).update({"language": "de"})) == set()
    assert await run(
        lambda session: session.query(users).filter_by(id=3).update({"site": "x"})
    ) == {UserUpdate(3)}


async def test_a_delete_publishes_the_rows_it_deletes(run: Run) -> None:
    def work(session: Any) -> None:
        assert session.query(ctfd.Submissions).filter_by(user_id=2).delete() == 2
        assert session.query(ctfd.Submissions).filter_by(user_id=1).delete() == 0

    assert await run(work) == {ChallengeSolve(2, 2, SOLVED_AT), ActivityUpdate(2)}


async def test_pending_objects_are_flushed_before_a_delete_reads_its_rows(run: Run) -> None:
    def work(session: Any) -> None:
        session.add(ctfd.Solves(user_id=1, challenge_id=1))
        session.query(ctfd.Submissions).delete()

    assert await run(work) == {
        ChallengeSolve(1, 1, SOLVED_AT),
        ActivityUpdate(1),
        ChallengeSolve(2, 2, SOLVED_AT),
        ActivityUpdate(2),
    }


async def test_core_tables_are_ours_too(run: Run) -> None:
    awards = ctfd.Awards.__table__
    lightweight = sa.table(
        "dojo_users", sa.column("dojo_id"), sa.column("user_id"), sa.column("type")
    )
    assert await run(
        lambda session: session.execute(awards.delete().where(awards.c.type == "belt"))
    ) == {BeltsUpdate()}
    assert await run(
        lambda session: session.execute(lightweight.update().values(type="admin"))
    ) == ctfd.changed(ctfd.DOJO, 0, 1)


async def test_a_criterion_on_another_table_is_evaluated(run: Run) -> None:
    users, members = ctfd.Users, ctfd.DojoUsers
    members_of: Any = sa.select(members.user_id).where(members.dojo_id == ctfd.DOJO)
    assert await run(
        lambda session: session.execute(
            sa.update(users)
            .where(users.id.in_(members_of))
            .values(hidden=True)
            .execution_options(synchronize_session=False)
        )
    ) == {UserUpdate(2)}
    assert await run(
        lambda session: session.execute(
            sa.update(users)
            .where(users.id == members.user_id)
            .where(members.dojo_id == ctfd.DOJO)
            .values(hidden=False)
            .execution_options(synchronize_session=False)
        )
    ) == {UserUpdate(2)}


async def test_an_update_to_an_expression_is_read_again(run: Run) -> None:
    solves = ctfd.Submissions
    assert await run(
        lambda session: session.execute(
            sa.update(solves)
            .where(solves.type == "correct")
            .values(user_id=solves.user_id + 1)
            .execution_options(synchronize_session=False)
        )
    ) == {
        ChallengeSolve(2, 2, SOLVED_AT),
        ChallengeSolve(3, 2, SOLVED_AT),
        ActivityUpdate(2),
        ActivityUpdate(3),
    }


async def test_an_update_of_the_key_changes_both_dojos(run: Run) -> None:
    members = ctfd.DojoUsers
    assert await run(
        lambda session: session.execute(
            sa.update(members)
            .where(members.user_id == 2)
            .values(dojo_id=ctfd.OTHER_DOJO)
            .execution_options(synchronize_session=False)
        )
    ) == ctfd.changed(ctfd.DOJO, 0, 1) | ctfd.changed(ctfd.OTHER_DOJO, 0)


async def test_the_parameters_of_many_executions_are_used(run: Run) -> None:
    users = ctfd.Users.__table__
    statement = users.update().where(users.c.id == sa.bindparam("who"))
    assert await run(
        lambda session: session.execute(
            statement, [{"who": 1, "name": "another"}, {"who": 3, "name": "a third"}]
        )
    ) == {UserUpdate(1), UserUpdate(3)}


@since_2_0
async def test_an_update_by_primary_key_is_published(run: Run) -> None:
    assert await run(
        lambda session: session.execute(
            sa.update(ctfd.Users), [{"id": 1, "name": "another"}, {"id": 2, "name": "user 2"}]
        )
    ) == {UserUpdate(1)}


async def test_an_insert_is_its_values_and_parameters(run: Run) -> None:
    table = ctfd.Submissions.__table__
    solve = {"type": "correct", "date": ctfd.LONG_AGO}
    one = table.insert().values(user_id=1, challenge_id=1, **solve)
    two = sa.insert(ctfd.Submissions).values(
        [{"user_id": 1, "challenge_id": n, **solve} for n in (2, 3)]
    )
    three = [{"user_id": 3, "challenge_id": n, **solve} for n in (1, 2, 3)]
    assert await run(lambda session: session.execute(one)) == {ChallengeSolve(1, 1, SOLVED_AT)}
    assert await run(lambda session: session.execute(two)) == {
        ChallengeSolve(1, 2, SOLVED_AT),
        ChallengeSolve(1, 3, SOLVED_AT),
    }
    assert await run(lambda session: session.execute(sa.insert(ctfd.Submissions), three)) == {
        ChallengeSolve(3, n, SOLVED_AT) for n in (1, 2, 3)
    }


@since_2_0
async def test_an_insert_of_an_entity_is_published_with_its_identity(run: Run) -> None:
    assert await run(
        lambda session: session.execute(
            sa.insert(ctfd.Solves),
            [{"user_id": 1, "challenge_id": n, "date": ctfd.LONG_AGO} for n in (1, 3)],
        )
    ) == {ChallengeSolve(1, 1, SOLVED_AT), ChallengeSolve(1, 3, SOLVED_AT)}
    assert await run(lambda session: session.execute(sa.insert(ctfd.Emojis), [{"user_id": 1}])) == {
        EmojisUpdate()
    }


async def test_attributes_named_otherwise_than_their_columns_are_known(run: Run) -> None:
    assert await run(
        lambda session: session.execute(
            sa.update(ctfd.Dojos).where(ctfd.Dojos.slug == "intro").values({"slug": "start"})
        )
    ) == ctfd.changed(ctfd.DOJO, 0, 1) | {BeltsUpdate(), EmojisUpdate()}


async def test_an_upsert_is_published_and_returns_its_result(run: Run) -> None:
    table = ctfd.DojoUsers.__table__
    rows = []

    def work(session: Any) -> None:
        statement = upsert(table).values(dojo_id=ctfd.OTHER_DOJO, user_id=1)
        rows.extend(session.execute(statement.on_conflict_do_nothing().returning(table.c.user_id)))

    assert await run(work) == ctfd.changed(ctfd.OTHER_DOJO, 0)
    assert [tuple(row) for row in rows] == [(1,)]


async def test_a_deleted_dojo_is_published_with_its_deleted_modules(run: Run) -> None:
    assert await run(lambda session: session.query(ctfd.Dojos).delete()) == {
        *ctfd.changed(ctfd.DOJO, 0, 1),
        *ctfd.changed(ctfd.OTHER_DOJO, 0),
        BeltsUpdate(),
        EmojisUpdate(),
    }


async def test_deleted_challenges_change_the_dojos_that_contain_them(run: Run) -> None:
    assert await run(
        lambda session: session.execute(sa.delete(ctfd.Challenges.__table__))
    ) == ctfd.changed(ctfd.DOJO, 0, 1) | {ActivityUpdate(2)}


async def test_rows_that_a_statement_selects_are_left_to_reconciling(run: Run) -> None:
    source = sa.select(sa.literal(1), sa.literal(1), sa.literal("correct"))
    statement = ctfd.Submissions.__table__.insert().from_select(
        ["user_id", "challenge_id", "type"], source
    )
    assert await run(lambda session: session.execute(statement)) == set()


def test_a_statement_with_too_many_rows_publishes_the_first_of_them(
    sessions: Any, entries: Callable[[], list[Event]], caplog: pytest.LogCaptureFixture
) -> None:
    numbers = sa.text(
        "INSERT INTO users (id, name, type) "
        "SELECT n, 'many', 'user' FROM generate_series(2001, 14000) n"
    )
    with sessions.begin() as session:
        session.execute(numbers)
        session.query(ctfd.Users).filter_by(name="many").update({"hidden": True})
    assert 10_000 <= len(entries()) <= 12_000
    assert "more than 10000 rows of users" in caplog.text


@since_2_0
async def test_the_result_of_a_statement_can_be_read_as_entities(run: Run) -> None:
    users = ctfd.Users
    statement = sa.update(users).where(users.id == 3).values(name="third").returning(users)
    assert await run(
        lambda session: (
            session.execute(
                sa.select(users)
                .from_statement(statement)
                .execution_options(populate_existing=True, synchronize_session=False)
            )
            .scalars()
            .all()
        )
    ) == {UserUpdate(3)}
