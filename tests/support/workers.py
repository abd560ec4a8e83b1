"""Two workers who get in each other's way."""

import random
from typing import Any

import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.job import parse
from statsd.jobs.queue import Answer, LeaseRequest
from statsd.servers.database import Database
from tests.support.daemon_parts import Parts, together


class Workers(Parts):
    """Two workers whose attempts at answering overlap in any order."""

    def __init__(self, cache: Redis, database: Database, chance: random.Random) -> None:
        super().__init__(cache, database)
        self._chance = chance
        self._open: list[tuple[Any, dict[str, Answer]]] = []

    async def begin(self) -> None:
        """Take something, not always the most urgent; what is found is written later, or never."""
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
        """Do a few things of what workers and a consumer do."""
        for _ in range(self._chance.randrange(4)):
            await self._chance.choice([self.begin, self.end, self.consumer.step])()

    def repeat(self, cache: "redis.Redis") -> None:
        """Let all that waits in the stream come once more."""
        entries: Any = cache.xrange(keys.STREAM)
        for _, fields in entries:
            cache.xadd(keys.STREAM, fields)

    @property
    def is_busy(self) -> bool:
        return bool(self._open)

    async def end(self) -> None:
        """Write one of the answers that were found; some after their leases were given back."""
        if not self._open:
            return
        attempt, answers = self._open.pop(self._chance.randrange(len(self._open)))
        if self._chance.random() < 0.15:
            await self.queue.release()
        await self.queue.complete(attempt, answers)

    def lose(self, cache: "redis.Redis") -> None:
        """Lose a key of the boards, any of them; or somebody puts something else there."""
        names = sorted(cache.scan_iter(f"{keys.BOARDS}*"))
        if names:
            name = self._chance.choice(names)
            cache.delete(name)
            if self._chance.random() < 0.3:
                cache.set(name, "something else")

    async def finish(self) -> None:
        """Write what is open, accept what was published, find what was lost, answer it all."""
        while self.is_busy:
            await self.end()
        await self.queue.release()
        await self.consume()
        await self.queue.sweep("0", 1000)
        await self.answer()
