"""Two workers that answer the same jobs at the same time."""

import random
from typing import Any

import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.job import parse
from statsd.jobs.attempt import Answer
from statsd.jobs.queue import LeaseRequest
from statsd.servers.database import Database
from tests.support.daemon_parts import Parts, together


class Workers(Parts):
    """Two workers whose attempts overlap in random order."""

    def __init__(self, cache: Redis, database: Database, chance: random.Random) -> None:
        super().__init__(cache, database)
        self._chance = chance
        self._open: list[tuple[Any, dict[str, Answer]]] = []

    async def begin(self) -> None:
        """Lease jobs of random kinds and compute their answers, which are written later."""
        kinds = self._chance.sample(sorted(self._batches), len(self._batches) // 2)
        batches = {kind: batch for kind, batch in self._batches.items() if kind in kinds}
        attempt = (await self.queue.lease(LeaseRequest(batches))).attempt
        if attempt is None:
            return
        jobs = [parse(name) for name in attempt.names]
        found = await together(self._executors[jobs[0].kind].execute(jobs, attempt))
        answers = {
            name: found.get(job, Answer({})) for name, job in zip(attempt.names, jobs, strict=True)
        }
        self._open.append((attempt, answers))

    async def work(self) -> None:
        """Do a few random steps of workers and of a consumer."""
        for _ in range(self._chance.randrange(4)):
            await self._chance.choice([self.begin, self.end, self.consumer.step])()

    def repeat(self, cache: "redis.Redis") -> None:
        """Publish every entry of the stream once more."""
        entries: Any = cache.xrange(keys.STREAM)
        for _, fields in entries:
            cache.xadd(keys.STREAM, fields)

    @property
    def is_busy(self) -> bool:
        """Whether answers are still to be written."""
        return bool(self._open)

    async def end(self) -> None:
        """Write a random one of the computed answers; sometimes release the leases before."""
        if not self._open:
            return
        attempt, answers = self._open.pop(self._chance.randrange(len(self._open)))
        if self._chance.random() < 0.15:
            await self.queue.release()
        await self.queue.complete(attempt, answers)

    def lose(self, cache: "redis.Redis") -> None:
        """Delete a random key of a dojo's state; sometimes replace it by one of another type."""
        names = sorted(cache.scan_iter(f"{keys.BOARDS}*"))
        if names:
            name = self._chance.choice(names)
            was_string = cache.type(name) == b"string"
            cache.delete(name)
            if self._chance.random() < 0.3:
                cache.rpush(name, "other") if was_string else cache.set(name, "other")

    async def finish(self) -> None:
        """Write the open answers, consume all events, sweep, and answer all jobs."""
        while self.is_busy:
            await self.end()
        await self.queue.release()
        await self.consume()
        await self.queue.sweep("0", 1000)
        await self.answer()
