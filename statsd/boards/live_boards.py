"""Live boards: a dojo's scoreboards as sorted sets, and its totals, updated by each solve.

The cost of a scoreboard's array grows with the solves of the dojo. The daemon therefore keeps
sorted sets beside the exported arrays. A solve enqueues one `UserEntries`, and its answer updates
the sorted sets. The dojo's statistics and crews follow from them without a pass over its solves.
All boards of a dojo are built together by the job `Scoreboard`, from the same pass as its exported
arrays.

`statsd/boards/lua/state.lua` describes the keys in Redis.
"""

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import msgspec
import orjson
from redis.asyncio import Redis

from statsd import keys, scripts
from statsd.calculators import crews, dojo_boards, dojo_stats, scoreboard, user_entries
from statsd.calculators.crews import Crews
from statsd.calculators.dojo_boards import Boards
from statsd.calculators.dojo_stats import RECENT, DojoStats, Newest, Totals
from statsd.calculators.scoreboard import Scoreboard
from statsd.calculators.user_entries import UserEntries
from statsd.definitions import RECENT_SOLVES, SENTINEL
from statsd.job import microseconds
from statsd.jobs.attempt import Answer, Attempt, PrefetchedTotals
from statsd.jobs.executor import calculated, calculated_in_parts
from statsd.jobs.parts import Parts
from statsd.servers.database import Database
from statsd.servers.snapshot import Groups

EXPIRE = "EXPIRE"
UPLOAD_TTL = 600  # seconds after which boards that were never installed expire
CHUNK = 1000  # entries in one command
BOARDS_PAGE = 8  # rows read at once, where each is a board with all its entries
USERS_PAGE = 500  # other rows read at once, most of them of one user each
MEMBERS = 200  # crew members in one request, which takes Redis some milliseconds
TRIES = 3  # attempts to read all members of a dojo between two writes

R = TypeVar("R")

Member = tuple[int, str, dict[str, Sequence[int]]]
"""A user, its JSON text on the boards, and by scope its ranks (from 0) in the windows."""


class LiveBoards:
    """Answers `Scoreboard`, `UserEntries`, `DojoStats` and `Crews`."""

    def __init__(self, redis: Redis, database: Database) -> None:
        self._redis = redis
        self._database = database
        self._members = redis.register_script(scripts.source("boards/members"))

    async def rebuild(self, wanted: Sequence[Scoreboard], attempt: Attempt) -> Parts:
        """Compute all scoreboards of dojos from one pass: the arrays and the boards.

        All rows together take much memory, so they are read and answered dojo by dojo.
        """
        parameters = user_entries.parameters(attempt.now) | dict(
            scoreboard.parameters(wanted, attempt.now)
        )
        async with self._database.snapshot(considerate=True) as snapshot:
            found = [
                await snapshot.groups(statement, parameters, page=page)
                for statement, page in zip(_STATEMENTS, _PAGES, strict=True)
            ]
            for dojo_id in sorted(job.dojo_id for job in wanted):
                yield {Scoreboard(dojo_id): await self._built(dojo_id, found, attempt)}

    async def _built(self, dojo_id: int, found: Sequence[Groups], attempt: Attempt) -> Answer:
        """Return the arrays of a dojo, after its boards were uploaded beside the current ones."""
        shaped = await _shaped(dojo_id, found)
        if not shaped:
            return Answer({}, boards={"no_boards": {"dojo": str(dojo_id)}})
        values, built = shaped
        prefix = await self._upload(dojo_id, built, attempt)
        return Answer(values, boards={"new_boards": {"dojo": str(dojo_id), "prefix": prefix}})

    async def _upload(self, dojo_id: int, boards: Boards, attempt: Attempt) -> str:
        """Write boards beside the current ones; return the prefix of their keys."""
        prefix = f"{keys.boards(dojo_id)}@{attempt.token}"
        for some in _in_parts(_commands(prefix, boards, attempt)):
            async with self._redis.pipeline(transaction=True) as pipeline:
                for command in some:
                    pipeline.execute_command(*command)
                await pipeline.execute()
        return prefix

    async def user_entries_of(
        self, wanted: Sequence[UserEntries], attempt: Attempt
    ) -> Mapping[UserEntries, Answer]:
        """Look up the entries of users for the boards of dojos."""
        parameters = user_entries.parameters(attempt.now) | user_entries.pairs(wanted)
        rows = await self._database.alone(user_entries.USER_ENTRIES, parameters)
        found = {UserEntries(row.dojo_id, row.user_id): user_entries.entries(row) for row in rows}
        day = attempt.now.date().isoformat()
        answers = {}
        for job in wanted:
            own = found.get(job, user_entries.NOTHING)
            new = {
                "dojo": str(job.dojo_id),
                "user": str(job.user_id),
                "day": day,
                "scores": own.scores,
                "record": own.record.decode() or None,
                "crew": own.crew.decode() or None,
                "leaving": None if own.until is None else microseconds(own.until),
            }
            answers[job] = Answer({}, boards={"user_entries": new})
        return answers

    async def dojo_stats(
        self, wanted: Sequence[DojoStats], attempt: Attempt
    ) -> Mapping[DojoStats, Answer]:
        """Compute the statistics of dojos, from their boards where possible."""
        prefetched = _usable_totals(wanted, attempt)
        answers = await self._from_prefetched(prefetched, attempt.now) if prefetched else {}
        others = [job for job in wanted if job not in prefetched]
        if others:
            async with self._database.snapshot() as snapshot:
                answers |= await calculated(dojo_stats.calculator, snapshot, others, attempt)
        return answers

    async def _from_prefetched(
        self, prefetched: Mapping[DojoStats, tuple[Totals, list[Newest]]], now: datetime
    ) -> dict[DojoStats, Answer]:
        """Return the statistics of dojos from prefetched totals and the rows of the dojos."""
        answers = {}
        parameters = dojo_stats.parameters(list(prefetched), now)
        for dojo in await self._database.alone(dojo_stats.DOJOS, parameters):
            job = DojoStats(dojo.dojo_id)
            total, newest = prefetched[job]
            oldest = newest[-1].date if newest else None
            answers[job] = Answer(
                dojo_stats.value(dojo, total, newest),
                until=dojo_stats.next_change(dojo, oldest, now),
            )
        return answers

    async def crews(self, wanted: Sequence[Crews], attempt: Attempt) -> Parts:
        """Compute the crews of dojos, from their boards where possible."""
        others = []
        for job in wanted:
            found = await self._members_of(str(job.dojo_id))
            if found:
                value = await asyncio.to_thread(crews.value, job.dojo_id, *found)
                yield {job: Answer(value)}
            else:
                others.append(job)
        if others:
            parts = calculated_in_parts(crews.calculator, self._database, others, attempt)
            async with aclosing(parts):
                async for answers in parts:
                    yield answers

    async def _members_of(self, dojo: str) -> tuple[list[str], list[Member]] | None:
        """Return the scopes of a dojo's boards, and its users with a tag.

        None where the boards are missing or doubtful. The users are read in several requests, and
        all of them again when the boards changed in between. After some attempts a mixture is
        returned: the change has enqueued the crews again.
        """
        found = await self._read_all_members(dojo)
        for _ in range(TRIES - 1):
            if found is None or found.is_of_one_moment:
                break
            found = await self._read_all_members(dojo)
        return None if found is None else (found.scopes, found.members)

    async def _read_all_members(self, dojo: str) -> "_AllMembers | None":
        first = await self._read_members(_Users, dojo=dojo)
        if first is None:
            return None
        members: list[Member] = []
        versions = {first.version}
        for start in range(0, len(first.users), MEMBERS):
            users = first.users[start : start + MEMBERS]
            part = await self._read_members(_Members, dojo=dojo, users=users)
            if part is None:
                return None
            versions.add(part.version)
            members += [each.member() for each in part.members]
        return _AllMembers(first.scopes, members, len(versions) == 1)

    async def _read_members(self, kind: type[R], **request: Any) -> R | None:
        reply: bytes | None = await self._members(args=[scripts.encode(request)])
        return None if reply is None else msgspec.msgpack.decode(reply, type=kind)


class _AllMembers(NamedTuple):
    scopes: list[str]
    members: list[Member]
    is_of_one_moment: bool
    """Whether the boards did not change between the replies."""


class _Users(msgspec.Struct):
    """A reply of the script `boards/members`: the users of a dojo who have a tag."""

    version: str
    scopes: list[str]
    users: list[str]


class _Member(msgspec.Struct):
    user: str
    text: str
    ranks: list[tuple[str, int, int, int]]

    def member(self) -> Member:
        return int(self.user), self.text, {scope: windows for scope, *windows in self.ranks}


class _Members(msgspec.Struct):
    """The other reply of that script: tags and ranks of some of those users."""

    version: str
    members: list[_Member]


def _usable_totals(
    wanted: Sequence[DojoStats], attempt: Attempt
) -> dict[DojoStats, tuple[Totals, list[Newest]]]:
    """Return the prefetched totals of the dojos whose boards have a chart of this day."""
    today = attempt.now.date().isoformat()
    found = [(job, attempt.prefetched.get(job.name)) for job in wanted]
    return {
        job: _totals_in(totals, attempt.now)
        for job, totals in found
        if totals and totals.day == today
    }


_STATEMENTS = (*scoreboard.calculator.statements, dojo_boards.ACTIVE, crews.CHALLENGES)
_PAGES = (USERS_PAGE, BOARDS_PAGE, USERS_PAGE, USERS_PAGE)


async def _shaped(
    dojo_id: int, found: Sequence[Groups]
) -> tuple[Mapping[str, orjson.Fragment], Boards] | None:
    """Return the arrays and the boards of a dojo; None if it does not exist.

    Its rows take much memory, which is free on return.
    """
    scopes, rows, active, tagged = [await groups.of(dojo_id) for groups in found]
    if not scopes:
        return None
    values = await asyncio.to_thread(_arrays, scopes, rows)
    return values, await asyncio.to_thread(dojo_boards.boards_of, scopes, rows, active, tagged)


def _arrays(scopes: Sequence[Any], rows: Sequence[Any]) -> Mapping[str, orjson.Fragment]:
    """Return the arrays of a dojo by key, as JSON, which takes far less memory than objects."""
    boards = scoreboard.boards_of(scopes, rows)
    return {key: orjson.Fragment(orjson.dumps(entries)) for _, key, entries in boards}


def _totals_in(found: PrefetchedTotals, now: datetime) -> tuple[Totals, list[Newest]]:
    newest = sorted(
        (
            solved
            for record in filter(None, found.records)
            for solved in user_entries.newest_in(record.encode())
            if solved.date >= now - RECENT
        ),
        key=lambda solved: solved.order,
        reverse=True,
    )
    return Totals(found.solves, found.users, found.chart), newest[:RECENT_SOLVES]


def _commands(prefix: str, boards: Boards, attempt: Attempt) -> Iterator[tuple[Any, ...]]:
    """Yield the commands that write all boards of a dojo under a prefix."""
    fields: dict[str, Any] = {
        "epoch": attempt.epoch,
        "token": attempt.token,
        "day": attempt.now.date().isoformat(),
        "modules": json.dumps(boards.module_indexes),
        "solves": boards.solves,
        "puts": 0,
    }
    for number, (solves, users) in enumerate(boards.chart, start=1):
        fields |= {f"solves{number}": solves, f"users{number}": users}
    yield from _written("HSET", prefix, list(fields.items()))
    yield from _written("HSET", f"{prefix}:users", [(SENTINEL, ""), *boards.records.items()])
    yield from _written("HSET", f"{prefix}:crews", [(SENTINEL, ""), *boards.crews.items()])
    moments = [(microseconds(date), user) for user, date in boards.newest.items()]
    yield from _written("ZADD", f"{prefix}:newest", [(-1, SENTINEL), *moments])
    leaving = [(microseconds(until), user) for user, until in boards.until.items()]
    yield from _written("ZADD", f"{prefix}:until", [("+inf", SENTINEL), *leaving])
    for (scope, days), scores in boards.scores.items():
        entries = [(score, user) for user, score in scores.items()]
        yield from _written("ZADD", f"{prefix}:{scope}:{days}", [(-1, SENTINEL), *entries])


def _written(command: str, key: str, pairs: Sequence[tuple[Any, Any]]) -> Iterator[tuple[Any, ...]]:
    """Yield the commands that write one key, which expires unless the boards are installed."""
    for first in range(0, len(pairs), CHUNK):
        yield command, key, *(part for pair in pairs[first : first + CHUNK] for part in pair)
        yield EXPIRE, key, UPLOAD_TTL


def _in_parts(commands: Iterable[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """Yield commands in parts of about equal size, since packing a part blocks the event loop.

    A command that writes a key and the command that sets its expiry are in one part.
    """
    part, size = [], 0
    for command in commands:
        part.append(command)
        size += len(command)
        if size >= CHUNK and command[0] == EXPIRE:
            yield part
            part, size = [], 0
    yield part
