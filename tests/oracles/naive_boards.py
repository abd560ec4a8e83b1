"""Scoreboards, challenge solves and scores in plain Python, as in `tests.oracles.naive`."""

from datetime import datetime

from tests.oracles.naive import (
    NEVER,
    CountedSolve,
    Row,
    World,
    counted_solves,
    in_window,
    is_open_to_all,
    modules_of,
)


def scoreboards(world: World, dojo: Row, now: datetime) -> Row:
    """Return all boards of a dojo, by key."""
    counted = counted_solves(world, dojo)
    boards = {}
    for days in (0, 7, 30):
        recent = in_window(counted, days, now)
        boards[f"stats:scoreboard:dojo:{dojo['dojo_id']}:{days}"] = board(world, recent)
        for index in modules_of(world, dojo):
            boards[f"stats:scoreboard:module:{dojo['dojo_id']}:{index}:{days}"] = board(
                world, [solve for solve in recent if solve.module_index == index]
            )
    return boards


def board(world: World, solves: list[CountedSolve]) -> list[Row]:
    def order(user: Row) -> tuple[int, int]:
        ids = [solve.id for solve in solves if solve.user_id == user["id"]]
        return -len(ids), max(ids)

    solvers = {solve.user_id for solve in solves}
    users = sorted([user for user in world.users if user["id"] in solvers], key=order)
    return [
        {
            "rank": rank,
            "solves": sum(solve.user_id == user["id"] for solve in solves),
            "user_id": user["id"],
            "name": user["name"],
            "email": user["email"],
        }
        for rank, user in enumerate(users, start=1)
    ]


def challenge_solves(world: World, dojo: Row) -> Row:
    """Return the counts of all modules of a dojo, by key; optional challenges are among them."""
    values: Row = {}
    for index in modules_of(world, dojo):
        ids = [
            solve.challenge_id
            for solve in counted_solves(world, dojo, with_optional=True)
            if solve.module_index == index
        ]
        key = f"stats:challenge_solves:module:{dojo['dojo_id']}:{index}"
        values[key] = {str(challenge_id): ids.count(challenge_id) for challenge_id in ids}
    return values


def scores(world: World, dojo: Row) -> Row:
    """Return the scores of a dojo and its modules, by key; none if the dojo is not open to all."""
    if not is_open_to_all(dojo):
        return {}
    modules = modules_of(world, dojo)
    solves = [
        (row["module_index"], solve["user_id"], solve["date"])
        for row in world.dojo_challenges
        for solve in world.submissions
        if row["dojo_id"] == dojo["dojo_id"]
        and row["required"]
        and row["module_index"] in modules
        and solve["type"] == "correct"
        and solve["user_id"] is not None
        and solve["challenge_id"] == row["challenge_id"]
    ]
    values = {f"stats:scores:dojo:{dojo['dojo_id']}": ranked([solve[1:] for solve in solves])}
    for index in modules:
        values[f"stats:scores:module:{dojo['dojo_id']}:{index}"] = ranked(
            [solve[1:] for solve in solves if solve[0] == index]
        )
    return values


def ranked(solves: list[tuple[int, datetime | None]]) -> Row:
    dates: dict[int, list[datetime | None]] = {}
    for user_id, date in solves:
        dates.setdefault(user_id, []).append(date)

    def order(user_id: int) -> tuple[int, datetime, int]:
        given = [date for date in dates[user_id] if date is not None]
        return -len(dates[user_id]), max(given, default=NEVER), user_id

    return {
        "ranks": sorted(dates, key=order),
        "solves": {str(user_id): len(dates[user_id]) for user_id in dates},
    }
