"""Query plans of the hot statements: `python -m benchmarks.plans [--scale M]`.

They are the statements of a cold start, for a full batch, and the statements of a solve, for one
user in one dojo and for a full batch. The plans come from EXPLAIN (ANALYZE, BUFFERS), with times.
"""

import argparse
import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.asyncpg import dialect

from benchmarks import samples, stage
from benchmarks.webapp import Solve
from statsd import urls
from statsd.calculators import crews, dojo_boards, dojo_stats, user_entries
from statsd.calculators.catalog import COLD_START
from statsd.calculators.dojo_stats import DojoStats
from statsd.calculators.user_entries import UserEntries
from statsd.dev.sample.rows import Shape
from statsd.handlers import solve
from statsd.servers.database import CUSTOM, GENERIC, WITHOUT_WORKERS, Database

EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS)"
DIALECT = dialect()  # type: ignore[no-untyped-call]


class Hot(NamedTuple):
    """A statement with its parameters."""

    title: str
    statement: "sa.Select[Any]"
    parameters: Mapping[str, Any]
    settings: str
    """The statements with which `Database` sets up the transaction."""


PLAN = "SET LOCAL jit = off; SET LOCAL plan_cache_mode = "


async def hot(database: Database, pairs: Sequence[Solve], now: datetime) -> list[Hot]:
    """Return the most expensive statements of a cold start and of a solve."""
    found: list[Hot] = []
    async with database.snapshot() as snapshot:
        for calculator in COLD_START:
            rows = await snapshot.rows(calculator.every.limit(calculator.cost.batch))
            jobs = [calculator.job(*row) for row in rows]
            parameters = calculator.parameters(jobs, now)
            statements = [*calculator.statements]
            if calculator.job.kind == "scoreboard":
                statements += [dojo_boards.ACTIVE, crews.CHALLENGES]
                parameters = user_entries.parameters(now) | dict(parameters)
            in_parts = calculator.is_large
            settings = PLAN + CUSTOM + (WITHOUT_WORKERS if in_parts else "")
            for number, statement in enumerate(statements, start=1):
                title = f"{calculator.job.kind}, statement {number}, {len(jobs)} at once"
                found.append(Hot(title, statement, parameters, settings))
    return [*found, *_of_solves(pairs[:1], now), *_of_solves(pairs, now)]


def _of_solves(solves: Sequence[Solve], now: datetime) -> Iterator[Hot]:
    """Yield the statements of solves: the look-up, user entries, and the dojos' own figures."""
    challenges = [each.challenge_id for each in solves]
    users = [each.user_id for each in solves]
    of_solves = {"challenge_ids": challenges, "user_ids": users, "distinct_ids": [*{*challenges}]}
    pairs = [UserEntries(each.dojo_id, each.user_id) for each in solves]
    of_pairs = user_entries.parameters(now) | user_entries.pairs(pairs)
    of_dojos = dojo_stats.parameters([*{DojoStats(each.dojo_id) for each in solves}], now)
    for name, statement, parameters in (
        ("look-up of solves", solve.LANDED_AND_DOJOS, of_solves),
        ("user entries", user_entries.USER_ENTRIES, of_pairs),
        ("own figures of dojos", dojo_stats.DOJOS, of_dojos),
    ):
        yield Hot(f"{name}, {len(solves)} solves at once", statement, parameters, PLAN + GENERIC)


async def explained(connection: asyncpg.Connection, each: Hot) -> str:
    """Return the plan, with times, that PostgreSQL uses for the daemon's statement."""
    compiled = each.statement.compile(dialect=DIALECT)
    values = compiled.construct_params(each.parameters)
    prepared = await connection.prepare(compiled.string)
    types = [found.name for found in prepared.get_parameters()]
    literals = [_literal(values[name]) for name in compiled.positiontup or ()]
    async with connection.transaction():
        await connection.execute(each.settings)
        declared = f" ({', '.join(types)})" if types else ""
        await connection.execute(f"PREPARE hot{declared} AS {compiled.string}")
        called = f" ({', '.join(literals)})" if literals else ""
        rows = await connection.fetch(f"{EXPLAIN} EXECUTE hot{called}")
        await connection.execute("DEALLOCATE hot")
    return "\n".join(row[0] for row in rows)


def _literal(value: Any) -> str:
    """Return a value as an untyped SQL literal, because EXECUTE takes no parameters."""
    text = "{" + ",".join(map(str, value)) + "}" if isinstance(value, list) else str(value)
    return "'" + text.replace("'", "''") + "'"


async def _explain_all(url: str, pairs: Sequence[Solve]) -> None:
    database = Database(
        urls.database_url(url), pool_size=1, statement_timeout=300, prepared_statements=True
    )
    now = datetime.now(UTC).replace(tzinfo=None)
    found = await hot(database, pairs, now)
    await database.close()
    connection = await asyncpg.connect(url)
    for each in found:
        print(f"\n--- {each.title}\n{await explained(connection, each)}", flush=True)
    await connection.close()


def main() -> None:
    """Print all plans."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.plans",
        description="Print the plans of the hot statements, with EXPLAIN (ANALYZE, BUFFERS).",
    )
    parser.add_argument(
        "--scale", choices=samples.SCALES, default="M", help="the scale of the sample, by default M"
    )
    parser.add_argument(
        "--shape", choices=[*Shape], default=Shape.SCATTER, help="its shape, by default scatter"
    )
    options = parser.parse_args()
    with stage.at(samples.Sample(options.scale, Shape(options.shape)), stage.FULL) as own:
        solves = own.webapp.open_pairs(user_entries.COST.batch)
        asyncio.run(_explain_all(own.servers.database_url, solves))


if __name__ == "__main__":
    main()
