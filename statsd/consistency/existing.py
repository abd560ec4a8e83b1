"""What exists in the database, and so has values."""

from statsd.calculators.catalog import CALCULATORS
from statsd.job import Job
from statsd.servers.database import Database


async def every_statistic(database: Database) -> list[Job]:
    """List all that exists in the database, the busiest dojos first."""
    async with database.snapshot() as snapshot:
        return [
            calculator.job.of(*row)
            for calculator in CALCULATORS
            for row in await snapshot.rows(calculator.every)
        ]
