"""The sample has the documented cases and sizes, and is the same for the same seed."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from statsd import schema
from statsd.dev import embedded
from statsd.dev.sample import load
from statsd.dev.sample.rows import Shape
from statsd.errors import StatsdError

NOW = datetime(2026, 3, 1, 12, 30)  # noqa: DTZ001 - the contract's dates are naive UTC
TINY = load.Scale(dojos=12, users=60, solves=900, misses_per_solve=2.5)


@pytest.fixture(scope="module")
def server() -> Iterator[embedded.Postgres]:
    with embedded.postgres(settings={"shared_buffers": "64MB"}) as running:
        yield running


async def run(url: str, query: str, *arguments: object) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return [row[0] for row in await connection.fetch(query, *arguments)]
    finally:
        await connection.close()


async def empty_database(server: embedded.Postgres, name: str) -> str:
    await run(server.url, f"CREATE DATABASE {name}")
    await load.create_tables(server.url_of(name))
    return server.url_of(name)


@pytest.fixture(scope="module")
def by_shape(server: embedded.Postgres) -> dict[Shape, str]:
    async def fill(shape: Shape) -> str:
        url = await empty_database(server, f"small_{shape}")
        await load.load(url, replace(load.SMALL, shape=shape), now=NOW)
        return url

    return {shape: asyncio.run(fill(shape)) for shape in Shape}


@pytest.fixture(scope="module")
def small(by_shape: dict[Shape, str]) -> str:
    return by_shape[Shape.WALK]


async def checksums(url: str) -> dict[str, str]:
    return {
        table: (
            await run(url, f"SELECT md5(string_agg(t::text, '/' ORDER BY t::text)) FROM {table} t")
        )[0]
        for table in schema.metadata.tables
    }


@pytest.mark.parametrize("shape", Shape)
async def test_same_seed_and_moment_give_the_same_rows(
    server: embedded.Postgres, shape: Shape
) -> None:
    sums = []
    for name, seed in (("one", 7), ("two", 7), ("three", 8)):
        url = await empty_database(server, f"{name}_{shape}")
        await load.load(url, replace(TINY, shape=shape), seed=seed, now=NOW)
        sums.append(await checksums(url))
    assert sums[0] == sums[1]
    assert not set(sums[0].values()) & set(sums[2].values()) - {sums[0]["challenges"]}


async def test_counts_are_those_of_the_scale(server: embedded.Postgres) -> None:
    url = await empty_database(server, "counts")
    calls: list[tuple[int, int]] = []
    loaded = await load.load(
        url, TINY, now=NOW, progress=lambda done, total: calls.append((done, total))
    )
    assert calls[-1] == (900, 900)
    assert (loaded.dojos, loaded.users, loaded.solves) == (12, 60, 900)
    assert await run(url, "SELECT count(*) FROM submissions") == [loaded.submissions]
    assert await run(url, "SELECT count(*) FROM submissions WHERE type <> 'correct'") == [2250]


async def test_a_database_with_rows_is_refused(small: str) -> None:
    with pytest.raises(StatsdError, match="give an empty one"):
        await load.load(small, TINY)


async def test_every_type_of_dojo_exists_with_solves(small: str) -> None:
    query = """
        SELECT DISTINCT coalesce(official, false)::text || ' ' || coalesce(data ->> 'type', 'none')
        FROM submissions JOIN dojo_challenges USING (challenge_id) JOIN dojos USING (dojo_id)
        WHERE submissions.type = 'correct'
    """
    kinds = {f"false {kind}" for kind in ("public", "course", "hidden", "example", "none")}
    assert set(await run(small, query)) >= kinds | {"true public", "true none"}


CLAUSES = {
    "official null": "dojos WHERE official IS NULL",
    "password": "dojos WHERE password IS NOT NULL",
    "emoji award": "dojos WHERE data -> 'award' ? 'emoji'",
    "belt award": "dojos WHERE data -> 'award' ? 'belt'",
    "negative id": "dojos WHERE dojo_id < 0",
    "shared slug": "dojos a JOIN dojos b USING (id) WHERE a.dojo_id < b.dojo_id",
    "shared challenge": "dojo_challenges a JOIN dojo_challenges b USING (challenge_id)"
    " WHERE a.dojo_id < b.dojo_id",
    "doubled challenge": "dojo_challenges a JOIN dojo_challenges b USING (dojo_id, challenge_id)"
    " WHERE (a.module_index, a.challenge_index) < (b.module_index, b.challenge_index)",
    "optional challenge": "dojo_challenges WHERE NOT required",
    "nameless challenge": "dojo_challenges WHERE name IS NULL",
    "challenge of a deleted module": "dojo_challenges LEFT JOIN dojo_modules m"
    " USING (dojo_id, module_index) WHERE m.id IS NULL",
    "open start": "dojo_challenge_visibilities WHERE start IS NULL AND stop IS NOT NULL",
    "open stop": "dojo_challenge_visibilities WHERE start IS NOT NULL AND stop IS NULL",
    "not yet visible": "dojo_challenge_visibilities WHERE start > '2026-03-01 12:30'",
    "no longer visible": "dojo_challenge_visibilities WHERE stop < '2026-03-01 12:30'",
    "solve by a dojo's admin": "submissions s JOIN dojo_users d ON s.user_id = d.user_id"
    " WHERE d.type = 'admin' AND s.type = 'correct'",
    "member": "dojo_users WHERE type = 'member'",
    "student": "dojo_users WHERE type = 'student'",
    "hidden user's solve": "submissions JOIN users ON users.id = user_id WHERE hidden",
    "site admin": "users WHERE type = 'admin'",
    "crew": r"users WHERE name ~ '\[[^\[\]]+\]\s*$'",
    "mark-up in a name": "users WHERE name LIKE '%<script>%'",
    "right-to-left override": "users WHERE name LIKE U&'%\\202e%'",
    "website": "users WHERE website IS NOT NULL",
    "user without solves": "users WHERE NOT EXISTS"
    " (SELECT FROM submissions WHERE user_id = users.id)",
    "solve without a user": "submissions WHERE user_id IS NULL AND type = 'correct'",
    "solve within the day": "submissions WHERE type = 'correct' AND date > '2026-03-01'",
    "custom emojis": "awards WHERE name = 'CUSTOM'",
    "stale emojis": "awards WHERE name LIKE '%STALE%'",
    "award of a dojo": "awards JOIN dojos ON category = lpad(to_hex(dojo_id), 8, '0')",
    "award of a deleted dojo": "awards WHERE category = 'deadbeef'",
    "the same belt twice": "awards a JOIN awards b USING (user_id, type, name)"
    " WHERE a.type = 'belt' AND a.id < b.id",
}


@pytest.mark.parametrize("clause", CLAUSES)
@pytest.mark.parametrize("shape", Shape)
async def test_the_sample_has(by_shape: dict[Shape, str], shape: Shape, clause: str) -> None:
    assert await run(by_shape[shape], f"SELECT count(*) FROM {CLAUSES[clause]}") > [0]


async def test_solves_grow_denser_and_end_at_the_given_moment(small: str) -> None:
    dates = await run(small, "SELECT date FROM submissions WHERE type = 'correct' ORDER BY id")
    assert dates == sorted(dates)
    assert NOW - timedelta(hours=6) < dates[-1] <= NOW
    assert dates[0] < NOW - timedelta(days=2 * 365)
    assert dates[len(dates) // 2] > NOW - timedelta(days=500)


async def test_foreign_keys_hold(small: str) -> None:
    dangling = """
        SELECT count(*) FROM submissions s LEFT JOIN users u ON u.id = s.user_id
        LEFT JOIN challenges c ON c.id = s.challenge_id
        WHERE c.id IS NULL OR (u.id IS NULL AND s.user_id IS NOT NULL)
    """
    assert await run(small, dangling) == [0]


async def test_rows_can_be_added(server: embedded.Postgres) -> None:
    url = await empty_database(server, "additions")
    loaded = await load.load(url, TINY, now=NOW)
    for table, count in (
        ("users", loaded.users),
        ("challenges", loaded.challenges),
        ("submissions", loaded.submissions),
        ("awards", loaded.awards),
    ):
        assert await run(url, f"INSERT INTO {table} DEFAULT VALUES RETURNING id") == [count + 1]
    index = "SELECT count(*) FROM pg_indexes WHERE indexname = 'submissions_solves'"
    assert await run(url, index) == [1]


SOLVERS = """
    SELECT dc.dojo_id, s.user_id FROM dojo_challenges dc
    JOIN submissions s ON s.challenge_id = dc.challenge_id
    WHERE s.type = 'correct' AND s.user_id IS NOT NULL
    GROUP BY 1, 2
"""


async def figure(url: str, query: str) -> float:
    [found] = await run(url, query)
    return float(found)


async def test_scattered_solves_touch_several_dojos(by_shape: dict[Shape, str]) -> None:
    of_solve = """
        SELECT avg(dojos) FROM submissions s JOIN (
            SELECT challenge_id, count(DISTINCT dojo_id) AS dojos
            FROM dojo_challenges GROUP BY 1
        ) AS owning USING (challenge_id) WHERE s.type = 'correct'
    """
    of_user = (
        f"SELECT avg(dojos) FROM (SELECT count(*) AS dojos FROM ({SOLVERS}) x GROUP BY user_id) y"
    )
    scatter, walk = by_shape[Shape.SCATTER], by_shape[Shape.WALK]
    assert await figure(walk, of_solve) < 1.5
    assert 2 < await figure(scatter, of_solve) < 3.5
    assert await figure(scatter, of_user) > 2 * await figure(walk, of_user)
    assert await figure(scatter, "SELECT count(*) FROM dojo_modules") == 20 * 10
    assert await figure(scatter, "SELECT count(*) FROM submissions WHERE type = 'correct'") > 20_000


async def test_nine_of_ten_users_are_in_the_giant(by_shape: dict[Shape, str]) -> None:
    sizes = f"SELECT count(*) FROM ({SOLVERS}) x GROUP BY dojo_id ORDER BY 1 DESC"
    giant, *others = await run(by_shape[Shape.GIANT], sizes)
    assert 0.86 * 500 < giant < 0.94 * 500
    assert len(others) > 150
    assert 3 < sum(others) / len(others) < 7
    assert max(others) < 50
    assert await figure(by_shape[Shape.GIANT], "SELECT count(*) FROM dojos") == 201


def test_the_command_loads_a_shape(server: embedded.Postgres) -> None:
    asyncio.run(run(server.url, "CREATE DATABASE command"))
    command = [sys.executable, "-m", "statsd.dev.sample", "--scale", "S", "--shape", "giant"]
    environment = os.environ | {"DATABASE_URL": server.url_of("command")}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.startswith("loaded 201 dojos, 500 users, ")
    again = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert again.stdout.startswith("nothing to do: ")
