"""Readers: a method for each statistic, in a sync and an async form.

A dojo is named like in its cache key: by its reference id (a text, as in its URL) or by
`dojos.dojo_id` (an integer). Arguments of another type raise TypeError.

The caller decides who may see a dojo. On a miss, all values of the same job are computed, such as
the scores of all modules of a dojo; that takes longer the larger the dojo is.
"""

from collections.abc import Iterable
from typing import Any

from statsd.calculators import belts, emojis
from statsd.client.cache_items import (
    activity_of,
    belts_of_all,
    challenge_solves_of,
    containers_of_all,
    dojo_stats_of,
    emojis_of_all,
    scores_of,
)
from statsd.client.pages import (
    Board,
    CrewPage,
    ScoreboardPage,
    check_integers,
    distinct_integers,
    entry_alone,
    mode_of,
    part_of,
)
from statsd.client.read_through import AsyncReadThrough, ReadThrough


class Reader(ReadThrough):
    """Reads statistics through a `redis.Redis`; computes on connections of a SQLAlchemy engine."""

    def get_dojo_stats(self, reference_id: str) -> dict[str, Any]:
        """Return the statistics of the dojo of that reference id: the contract's `stats:dojo:`.

        A dojo that does not exist has the empty value, as every dojo has on a miss without the
        fallback.
        """
        value: dict[str, Any] = self._value(dojo_stats_of(reference_id))
        return value

    def get_scoreboard(
        self,
        dojo_id: int,
        module_index: int | None = None,
        days: int = 0,
        page: int = 1,
        per_page: int = 20,
        *,
        me: int | None = None,
    ) -> ScoreboardPage:
        """Return a page of the scoreboard of a dojo, or of one of its modules.

        `days` is the window: 7, 30, or 0 for all time. Pages count from 1. `me` is the id of a user
        whose own entry is returned with the page. The page is read from the live board, if there is
        one; that takes the same time however long the board is. Entries contain e-mail addresses,
        as the cache does; do not show them. A page after the last one has no entries, and a dojo or
        module that does not exist has an empty board. Raises ValueError for other windows, and for
        pages or sizes below 1.
        """
        board = Board(dojo_id, module_index, days)
        return self._part(part_of(board, page, per_page, me))

    def get_rank(
        self, dojo_id: int, user_id: int, module_index: int | None = None, days: int = 0
    ) -> int | None:
        """Return a user's rank on a scoreboard, from 1; None for a user without an entry."""
        board = Board(dojo_id, module_index, days)
        own = self._part(entry_alone(board, user_id)).me
        return None if own is None else own["rank"]

    def get_solves(
        self, dojo_id: int, user_id: int, module_index: int | None = None, days: int = 0
    ) -> int:
        """Return a user's number of solves on a scoreboard; 0 for a user without an entry."""
        board = Board(dojo_id, module_index, days)
        own = self._part(entry_alone(board, user_id)).me
        return 0 if own is None else own["solves"]

    def get_crews(
        self,
        dojo_id: int,
        module_index: int | None = None,
        days: int = 0,
        *,
        mode: str = "cumulative",
        page: int = 1,
        per_page: int = 20,
    ) -> CrewPage:
        """Return a page of the crews on a scoreboard: the contract's `stats:crews:`.

        The arguments are those of `get_scoreboard`. Crews are ranked by the sum of their members'
        solves or, in the mode `unique`, by the number of different challenges that any member
        solved. Raises ValueError for other modes.
        """
        crew_mode = mode_of(mode, page, per_page)
        return crew_mode.cut(self._crews(Board(dojo_id, module_index, days)))

    def get_dojo_scores(self, dojo_id: int) -> dict[str, Any]:
        """Return the scores in a public or official dojo: the contract's `stats:scores:dojo:`.

        `ranks` has user ids, the best first; `solves` has counts by user id (a text). Both are
        empty for other dojos.
        """
        value: dict[str, Any] = self._value(scores_of(dojo_id, None))
        return value

    def get_module_scores(self, dojo_id: int, module_index: int) -> dict[str, Any]:
        """As `get_dojo_scores`, in one module."""
        check_integers(module_index=module_index)
        value: dict[str, Any] = self._value(scores_of(dojo_id, module_index))
        return value

    def get_challenge_solves(self, dojo_id: int, module_index: int) -> dict[str, int]:
        """Return how often each challenge of a module was solved, by its id (a text).

        Challenges without solves are left out.
        """
        value: dict[str, int] = self._value(challenge_solves_of(dojo_id, module_index))
        return value

    def get_belts(self) -> dict[str, Any]:
        """Return the belts of all users: the contract's `stats:belts`.

        `dates` has the date of every belt, by colour and user id (a text). `users`, by user id, and
        `ranks`, by colour, have the highest belt of each user. All eight colours are always there.
        """
        value: dict[str, Any] = self._value(belts_of_all())
        return value

    def get_user_belts(self, user_id: int) -> dict[str, str | None]:
        """Return the dates of a user's belts by colour, the lowest first."""
        check_integers(user_id=user_id)
        return belts.user_of(self._value(belts_of_all()), user_id)

    def get_emojis(self, *, viewable: Iterable[int] = ()) -> dict[str, Any]:
        """Return the emojis that a user may see: a part of the contract's `stats:emojis`.

        `viewable` has the `dojo_id`s of the dojos that the user may see and that are not public.
        Emojis of public dojos, and emojis that belong to no dojo, are always included. Emojis of a
        dojo that awards none any more, or is deleted, are included if `viewable` has the dojo.
        """
        ids = distinct_integers(viewable=viewable)
        return emojis.viewable_in(self._value(emojis_of_all()), ids)

    def get_activity(self, user_id: int) -> dict[str, Any]:
        """Return a user's solves of the last 365 days: the contract's `stats:activity`.

        `solve_timestamps` has dates (UTC, ISO 8601 with `Z`) in the order of the ids of the solves,
        and `total_solves` is their number. Hidden users have them too.
        """
        value: dict[str, Any] = self._value(activity_of(user_id))
        return value

    def get_containers(self) -> list[dict[str, str]]:
        """Return the running challenge containers: the contract's `stats:containers`.

        Each has `dojo`, `module` and `challenge` from the labels of the container. There is no
        fallback: only the daemon asks the Docker engines.
        """
        value: list[dict[str, str]] = self._value(containers_of_all())
        return value


class AsyncReader(AsyncReadThrough):
    """`Reader` for a `redis.asyncio.Redis` and an `AsyncEngine`."""

    async def get_dojo_stats(self, reference_id: str) -> dict[str, Any]:
        """As `Reader.get_dojo_stats`."""
        value: dict[str, Any] = await self._value(dojo_stats_of(reference_id))
        return value

    async def get_scoreboard(
        self,
        dojo_id: int,
        module_index: int | None = None,
        days: int = 0,
        page: int = 1,
        per_page: int = 20,
        *,
        me: int | None = None,
    ) -> ScoreboardPage:
        """As `Reader.get_scoreboard`."""
        board = Board(dojo_id, module_index, days)
        return await self._part(part_of(board, page, per_page, me))

    async def get_rank(
        self, dojo_id: int, user_id: int, module_index: int | None = None, days: int = 0
    ) -> int | None:
        """As `Reader.get_rank`."""
        board = Board(dojo_id, module_index, days)
        own = (await self._part(entry_alone(board, user_id))).me
        return None if own is None else own["rank"]

    async def get_solves(
        self, dojo_id: int, user_id: int, module_index: int | None = None, days: int = 0
    ) -> int:
        """As `Reader.get_solves`."""
        board = Board(dojo_id, module_index, days)
        own = (await self._part(entry_alone(board, user_id))).me
        return 0 if own is None else own["solves"]

    async def get_crews(
        self,
        dojo_id: int,
        module_index: int | None = None,
        days: int = 0,
        *,
        mode: str = "cumulative",
        page: int = 1,
        per_page: int = 20,
    ) -> CrewPage:
        """As `Reader.get_crews`."""
        crew_mode = mode_of(mode, page, per_page)
        return crew_mode.cut(await self._crews(Board(dojo_id, module_index, days)))

    async def get_dojo_scores(self, dojo_id: int) -> dict[str, Any]:
        """As `Reader.get_dojo_scores`."""
        value: dict[str, Any] = await self._value(scores_of(dojo_id, None))
        return value

    async def get_module_scores(self, dojo_id: int, module_index: int) -> dict[str, Any]:
        """As `Reader.get_module_scores`."""
        check_integers(module_index=module_index)
        value: dict[str, Any] = await self._value(scores_of(dojo_id, module_index))
        return value

    async def get_challenge_solves(self, dojo_id: int, module_index: int) -> dict[str, int]:
        """As `Reader.get_challenge_solves`."""
        value: dict[str, int] = await self._value(challenge_solves_of(dojo_id, module_index))
        return value

    async def get_belts(self) -> dict[str, Any]:
        """As `Reader.get_belts`."""
        value: dict[str, Any] = await self._value(belts_of_all())
        return value

    async def get_user_belts(self, user_id: int) -> dict[str, str | None]:
        """As `Reader.get_user_belts`."""
        check_integers(user_id=user_id)
        return belts.user_of(await self._value(belts_of_all()), user_id)

    async def get_emojis(self, *, viewable: Iterable[int] = ()) -> dict[str, Any]:
        """As `Reader.get_emojis`."""
        ids = distinct_integers(viewable=viewable)
        return emojis.viewable_in(await self._value(emojis_of_all()), ids)

    async def get_activity(self, user_id: int) -> dict[str, Any]:
        """As `Reader.get_activity`."""
        value: dict[str, Any] = await self._value(activity_of(user_id))
        return value

    async def get_containers(self) -> list[dict[str, str]]:
        """As `Reader.get_containers`."""
        value: list[dict[str, str]] = await self._value(containers_of_all())
        return value
