"""Names: the name and e-mail address of each user, once in Redis for all dojos."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from redis.asyncio import Redis

from statsd import keys, scripts
from statsd.boards.arrays import Tails, tail_of
from statsd.calculators.counted import among
from statsd.calculators.user_entries import Person, person_in
from statsd.definitions import SENTINEL
from statsd.schema import users
from statsd.servers.database import Database

MOST = 200_000  # users whose names a daemon keeps, some 300 bytes each
PAGE = 500  # users written in one script call

PEOPLE = sa.select(users.c.id, users.c.name, users.c.email).where(
    among(users.c.id, "user_ids"), users.c.hidden.is_not(True)
)
"""The parameter is `user_ids`. Hidden users are left out."""

NOBODY = Person(None, None)


class People:
    """The people of a batch of dojos, with what their boards need of them."""

    def __init__(self) -> None:
        self.of: dict[int, Person] = {}
        self.tails: dict[int, bytes] = {}
        self.digests: dict[int, int] = {}
        self.tagged: set[int] = set()
        """The users whose name has a tag."""

    def add(self, people: Iterable[tuple[int, Person]]) -> None:
        """Add people by user, or newer names of them."""
        for user, person in people:
            if self.of.get(user) != person:
                self.of[user] = person
                self.tails[user] = tail_of(user, person)
                self.digests[user] = person.digest
                (self.tagged.add if person.is_tagged else self.tagged.discard)(user)


class Names:
    """The names of users, read from Redis, and kept in the daemon as long as they do not change."""

    def __init__(self, redis: Redis, database: Database) -> None:
        self._redis = redis
        self._names = redis.register_script(scripts.source("boards/names"))
        self._put = redis.register_script(scripts.source("boards/put_people"))
        self._database = database
        self._tails: dict[int, bytes] = {}
        self._since = 0
        self._life: str | None = None
        self._lock = asyncio.Lock()

    async def of(self, wanted: Sequence[Sequence[int]]) -> Tails:
        """Return the tails of at least the users on some boards, as of a moment after the call."""
        async with self._lock:
            if len(self._tails) > MOST:
                self._forget()
            missing = self._missing(wanted)
            reply = await self._read(missing)
            if reply.changed is None and self._tails:
                self._forget()  # it is not known which names changed
                missing = self._missing(wanted)
                reply = await self._read(missing)
            self._since = reply.token
            # Threads may read the tails meanwhile, so they are replaced and never removed.
            known = {int(user): tail_of(int(user), person_in(text)) for user, text in reply.people}
            gone = {*map(int, reply.changed or ())} - known.keys()
            self._tails |= known | {user: tail_of(user, NOBODY) for user in gone}
            tails, unknown = self._tails, [*missing - self._tails.keys()]
        if unknown:
            await self._learn_from_database(unknown, tails, reply.token)
        return tails

    def _forget(self) -> None:
        self._tails, self._since = {}, 0

    def _missing(self, wanted: Sequence[Sequence[int]]) -> set[int]:
        lacking = (users for users in wanted if None in map(self._tails.get, users))
        return set().union(*lacking) - self._tails.keys()

    async def _read(self, missing: Iterable[int]) -> "_Reply":
        users = [str(user) for user in missing]
        request = scripts.encode({"since": self._since, "users": users})
        reply: bytes = await self._names(args=[request])
        return msgspec.msgpack.decode(reply, type=_Reply)

    async def _learn_from_database(
        self, unknown: Sequence[int], tails: dict[int, bytes], token: int
    ) -> None:
        """Redis lost names, or a board still has a user who is hidden or gone by now.

        `token` is older than what the database has now.
        """
        rows = await self._database.alone(PEOPLE, {"user_ids": unknown})
        found = {row.id: Person(row.name, row.email) for row in rows}
        people = People()
        people.add(found.items())
        await self.learn(people, token)
        for user in unknown:
            tails.setdefault(user, tail_of(user, found.get(user, NOBODY)))

    async def learn(self, people: People, token: int) -> None:
        """Store names that were read from a snapshot of the database after a token."""
        async with self._lock:
            await self._store(people, token)

    async def _store(self, people: People, token: int) -> None:
        life: Any = await self._redis.hget(keys.NAMES, SENTINEL)
        if life is None or life.decode() != self._life:  # Redis has lost what was stored before
            self._forget()
        new = [user for user, tail in people.tails.items() if self._tails.get(user) != tail]
        for first in range(0, len(new), PAGE):
            page = new[first : first + PAGE]
            texts = [(str(user), people.of[user].text) for user in page]
            raw: bytes = await self._put(args=[scripts.encode({"token": token, "people": texts})])
            stored = msgspec.msgpack.decode(raw, type=_Stored)
            if stored.life != self._life:
                self._forget()
                self._life = stored.life
            # Redis has newer names of some; the log of names will tell.
            refused = set(map(int, stored.refused))
            self._tails |= {user: people.tails[user] for user in page if user not in refused}


class _Stored(msgspec.Struct):
    """The reply of the script `boards/put_people`, as described on top of it."""

    life: str
    refused: list[str]


class _Reply(msgspec.Struct):
    """The reply of the script `boards/names`, as described on top of it."""

    token: int
    people: list[tuple[str, str]]
    changed: list[str] | None = None
