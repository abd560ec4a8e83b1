"""Fill a database with a made-up platform, for tests, benchmarks and demonstrations.

The same scale, seed and moment give the same rows.
"""

import argparse
import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from random import Random

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateIndex

from statsd import schema, settings
from statsd.dev.sample.history import History, make_history, make_submissions
from statsd.dev.sample.rows import SampleRow, Shape, make_awards, make_dojos, make_users
from statsd.errors import StatsdError
from statsd.servers.errors import brief

Progress = Callable[[int, int], None]
"""Called after each part with the number of loaded solves and the number of all solves."""

SERIAL_TABLES = ("users", "challenges", "submissions", "awards")


@dataclass(frozen=True)
class Scale:
    """The size and the shape of a sample."""

    dojos: int
    """With the shape `giant` there are ten times as many, and one more."""
    users: int
    solves: int
    misses_per_solve: float = 1.0
    """The number of wrong submissions for each solve."""
    shape: Shape = Shape.WALK


DEMO = Scale(dojos=12, users=300, solves=8_000)
SMALL = Scale(dojos=20, users=500, solves=20_000)
MEDIUM = Scale(dojos=200, users=20_000, solves=1_000_000)
LARGE = Scale(dojos=500, users=60_000, solves=5_000_000)
SCALES = {"demo": DEMO, "S": SMALL, "M": MEDIUM, "L": LARGE}


@dataclass(frozen=True)
class Loaded:
    """The number of rows loaded into each table, and of solves among the submissions."""

    dojos: int
    dojo_modules: int
    dojo_challenges: int
    dojo_challenge_visibilities: int
    dojo_users: int
    users: int
    challenges: int
    awards: int
    submissions: int
    solves: int


async def create_tables(database_url: str) -> None:
    """Create the missing tables of the contract."""
    url = sa.make_url(database_url).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.begin() as connection:
        await connection.run_sync(schema.metadata.create_all)
    await engine.dispose()


async def load(
    database_url: str,
    scale: Scale,
    *,
    seed: int = 0,
    now: datetime | None = None,
    progress: Progress | None = None,
) -> Loaded:
    """Fill the empty tables in one transaction, and run VACUUM ANALYZE.

    The history ends at `now` (naive UTC; by default the present). Foreign keys are not checked
    meanwhile, so the database user has to be a superuser. Raises StatsdError when the tables are
    not empty, and asyncpg's own errors.
    """
    now = now or datetime.now(UTC).replace(tzinfo=None)
    url = sa.make_url(database_url).set(drivername="postgresql")
    connection = await asyncpg.connect(url.render_as_string(hide_password=False))
    try:
        async with connection.transaction():
            loaded = await _fill(connection, scale, seed, now, progress)
        await connection.execute(f"VACUUM (ANALYZE) {', '.join(schema.metadata.tables)}")
    finally:
        await connection.close()
    return loaded


async def _fill(
    connection: asyncpg.Connection,
    scale: Scale,
    seed: int,
    now: datetime,
    progress: Progress | None,
) -> Loaded:
    if await connection.fetchval("SELECT EXISTS (TABLE users) OR EXISTS (TABLE dojos)"):
        raise StatsdError("the database has users or dojos already: give an empty one")
    await connection.execute("SET LOCAL session_replication_role = replica")
    await connection.execute("SET LOCAL maintenance_work_mem = '256MB'")
    dojos = make_dojos(Random(f"{seed} dojos"), scale.dojos, now, scale.shape)
    history = make_history(Random(f"{seed} history"), dojos, scale.users, scale.solves, scale.shape)
    awards = make_awards(Random(f"{seed} awards"), scale.users, dojos, now)
    small: list[tuple[sa.Table, Iterable[SampleRow]]] = [
        (schema.users, make_users(Random(f"{seed} users"), scale.users)),
        (schema.challenges, dojos.challenge_rows),
        (schema.dojos, dojos.dojos),
        (schema.dojo_modules, dojos.modules),
        (schema.dojo_challenges, dojos.challenges),
        (schema.dojo_challenge_visibilities, dojos.visibilities),
        (schema.dojo_users, history.member_rows(dojos)),
        (schema.awards, awards),
    ]
    counts = {table.name: await _copy(connection, table, rows) for table, rows in small}
    slices = make_submissions(Random(f"{seed} submissions"), history, scale.misses_per_solve, now)
    rows = _reported(slices, history, progress)
    counts["submissions"] = await _copy_submissions(connection, rows)
    for table in SERIAL_TABLES:
        sequence = f"pg_get_serial_sequence('{table}', 'id')"
        await connection.execute(f"SELECT setval({sequence}, max(id)) FROM {table}")  # noqa: S608 - our names
    return Loaded(**counts, solves=history.solves)


async def _copy(connection: asyncpg.Connection, table: sa.Table, rows: Iterable[SampleRow]) -> int:
    """Load rows with COPY; return their number."""
    columns = [column.name for column in table.columns]
    status = await connection.copy_records_to_table(table.name, records=rows, columns=columns)
    return int(status.removeprefix("COPY "))


async def _copy_submissions(connection: asyncpg.Connection, rows: Iterable[SampleRow]) -> int:
    """Load the large table without its indexes: building them afterwards is faster."""
    dialect = sa.make_url("postgresql+asyncpg://").get_dialect()()
    indexes = sorted(schema.submissions.indexes, key=lambda index: str(index.name))
    for index in indexes:
        await connection.execute(f"DROP INDEX {index.name}")
    count = await _copy(connection, schema.submissions, rows)
    for index in indexes:
        await connection.execute(str(CreateIndex(index).compile(dialect=dialect)))
    return count


def _reported(
    slices: Iterable[list[SampleRow]], history: History, progress: Progress | None
) -> Iterator[SampleRow]:
    """Return the rows of all slices, and call `progress` after each slice."""
    done = 0
    for part, rows in zip(history.slices, slices, strict=True):
        yield from rows
        done += len(part)
        if progress:
            progress(done, history.solves)


async def _fill_if_empty(database_url: str, scale: Scale) -> str:
    """Create the tables, load rows if there are none, and return a line about the result."""
    await create_tables(database_url)
    try:
        loaded = await load(database_url, scale)
    except StatsdError as error:
        return f"nothing to do: {error}"
    return f"loaded {loaded.dojos} dojos, {loaded.users} users, {loaded.solves} solves"


def main() -> None:
    """Create the tables in DATABASE_URL, and load a sample if they are empty."""
    parser = argparse.ArgumentParser(
        prog="python -m statsd.dev.sample",
        description="Create the tables in DATABASE_URL, and load a sample if they are empty.",
    )
    parser.add_argument("--scale", choices=SCALES, default="demo", help="by default demo")
    parser.add_argument("--shape", choices=[*Shape], default=Shape.WALK, help="by default walk")
    options = parser.parse_args()
    scale = replace(SCALES[options.scale], shape=Shape(options.shape))
    try:
        line = asyncio.run(_fill_if_empty(settings.load(os.environ).database_url, scale))
    except StatsdError as error:
        raise SystemExit(str(error)) from None
    except sa.exc.DBAPIError as error:
        raise SystemExit(f"DATABASE_URL: {brief(error)}") from None
    print(line)  # noqa: T201 - for the container's log
