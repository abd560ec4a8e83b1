"""Section 4 of the contract in plain Python: no SQL, no optimization, only nested loops.

Rows are dictionaries by the tables' column names. Tests compare calculators with these functions.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

Row = dict[str, Any]
NEVER = datetime(9999, 12, 31)  # noqa: DTZ001 - naive UTC, as the tables have it


@dataclass
class World:
    """All rows of a small database, by table."""

    users: list[Row] = field(default_factory=list)
    challenges: list[Row] = field(default_factory=list)
    dojos: list[Row] = field(default_factory=list)
    dojo_modules: list[Row] = field(default_factory=list)
    dojo_challenges: list[Row] = field(default_factory=list)
    dojo_challenge_visibilities: list[Row] = field(default_factory=list)
    dojo_users: list[Row] = field(default_factory=list)
    submissions: list[Row] = field(default_factory=list)
    awards: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class CountedSolve:
    id: int
    user_id: int
    challenge_id: int
    module_index: int
    date: datetime | None
    challenge_name: str | None

    def since(self, moment: datetime) -> bool:
        return self.date is not None and self.date >= moment


def visibility_of(world: World, row: Row) -> tuple[datetime | None, datetime | None]:
    for visibility in world.dojo_challenge_visibilities:
        if all(
            visibility[name] == row[name] for name in ("dojo_id", "module_index", "challenge_index")
        ):
            return visibility["start"], visibility["stop"]
    return None, None


def includes(bounds: tuple[datetime | None, datetime | None], moment: datetime | None) -> bool:
    start, stop = bounds
    if moment is None:
        return start is None and stop is None
    return not (start is not None and moment < start) and not (stop is not None and moment > stop)


def is_open_to_all(dojo: Row) -> bool:
    data = dojo["data"]
    return dojo["official"] is True or (isinstance(data, dict) and data.get("type") == "public")


def modules_of(world: World, dojo: Row) -> list[int]:
    return [row["module_index"] for row in world.dojo_modules if row["dojo_id"] == dojo["dojo_id"]]


def counted_solves(world: World, dojo: Row, *, with_optional: bool = False) -> list[CountedSolve]:
    members = {
        row["user_id"]: row["type"] for row in world.dojo_users if row["dojo_id"] == dojo["dojo_id"]
    }
    modules = modules_of(world, dojo)
    hidden = {user["id"] for user in world.users if user["hidden"]}
    open_to_all = is_open_to_all(dojo)
    counted = []
    for row in world.dojo_challenges:
        if row["dojo_id"] != dojo["dojo_id"]:
            continue
        if not row["required"] and not with_optional:
            continue
        if row["module_index"] not in modules:
            continue
        bounds = visibility_of(world, row)
        for solve in world.submissions:
            user_id = solve["user_id"]
            if solve["type"] != "correct" or user_id is None:
                continue
            if solve["challenge_id"] != row["challenge_id"] or user_id in hidden:
                continue
            if members.get(user_id) == "admin" or not (open_to_all or user_id in members):
                continue
            if includes(bounds, solve["date"]):
                name = row["name"] or row["id"]
                counted.append(
                    CountedSolve(
                        solve["id"],
                        user_id,
                        solve["challenge_id"],
                        row["module_index"],
                        solve["date"],
                        name,
                    )
                )
    return counted


def in_window(solves: list[CountedSolve], days: int, now: datetime) -> list[CountedSolve]:
    return [solve for solve in solves if days == 0 or solve.since(now - timedelta(days=days))]


def trend(a: int, b: int) -> int:
    if b == 0:
        return 100 if a > 0 else 0
    return max(-99, min(999, round((a - b) / b * 100)))


@dataclass(frozen=True)
class DojoStats:
    """The value without `recent_solves`, and the candidates for it; equal dates leave a choice."""

    value: Row
    recent: list[tuple[datetime, str | None]]


def dojo_stats(world: World, dojo: Row, now: datetime) -> DojoStats:
    counted = counted_solves(world, dojo)
    rows = [row for row in world.dojo_challenges if row["dojo_id"] == dojo["dojo_id"]]
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    solves, users = [], []
    for days in (1, 7, 30, 60):
        start = midnight - timedelta(days=days)
        stop = start + timedelta(days=1)
        on_day = [solve for solve in counted if solve.since(start) and not solve.since(stop)]
        solves.append(len(on_day))
        users.append(len({solve.user_id for solve in on_day}))
    value = {
        "users": len({solve.user_id for solve in counted}),
        "challenges": len(rows),
        "visible_challenges": sum(includes(visibility_of(world, row), now) for row in rows),
        "solves": len(counted),
        "trends": {
            "solves": trend(solves[0], solves[1]),
            "users": trend(users[0], users[1]),
            "active": 0,
            "challenges": 0,
        },
        "chart_data": {
            "labels": ["Today", "1w ago", "1mo ago", "2mo ago"],
            "solves": solves,
            "users": users,
        },
    }
    recent = [
        (solve.date, solve.challenge_name)
        for solve in counted
        if solve.date is not None and solve.since(now - timedelta(days=7))
    ]
    return DojoStats(value, sorted(recent, key=lambda pair: pair[0], reverse=True))


def check_dojo_stats(actual: Row, expected: DojoStats) -> None:
    """Assert that a value agrees with the definition, for any choice among equal dates."""
    shown = actual["recent_solves"]
    assert {key: actual[key] for key in actual if key != "recent_solves"} == expected.value
    dates = [date for date, _ in expected.recent][:5]
    assert [solve["date"] for solve in shown] == [date.isoformat() for date in dates]
    assert [solve["date_display"] for solve in shown] == [
        date.strftime("%m/%d/%y %I:%M %p") for date in dates
    ]
    left = [(date.isoformat(), name) for date, name in expected.recent]
    for solve in shown:
        left.remove((solve["date"], solve["challenge_name"]))
