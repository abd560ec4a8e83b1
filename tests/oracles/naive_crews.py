"""Crews in plain Python, as in `tests.oracles.naive`, letter by letter."""

import unicodedata
from datetime import datetime

from tests.oracles.naive import CountedSolve, Row, World, counted_solves, in_window, modules_of
from tests.oracles.naive_boards import board

STRIPPED = [(0x00, 0x1F), (0x7F, 0x9F), (0xAD, 0xAD), (0x34F, 0x34F), (0x17B4, 0x17B5)]
STRIPPED += [(0x180B, 0x180E), (0x200B, 0x200F), (0x2028, 0x202E), (0x2060, 0x2064)]
STRIPPED += [(0x2066, 0x2069), (0xFEFF, 0xFEFF), (0xE0000, 0xE007F)]


def tag(name: str | None) -> str | None:
    name = name or ""
    while name and name[-1].isspace():
        name = name[:-1]
    if not name.endswith("]"):
        return None
    letters: list[str] = []
    for letter in reversed(name[:-1]):
        if letter in "[]":
            break
        letters.insert(0, letter)
    else:
        return None
    if letter == "]" or not 1 <= len(letters) <= 24:
        return None
    kept = [
        letter
        for letter in letters
        if not any(first <= ord(letter) <= last for first, last in STRIPPED)
    ]
    words: list[str] = [""]
    for letter in kept:
        if letter.isspace():
            words.append("")
        else:
            words[-1] += letter
    shown = " ".join(word for word in words if word)
    return shown if 1 <= len(shown) <= 20 and key(shown) else None


def key(shown: str) -> str:
    plain = [letter for letter in shown if not 0xFE00 <= ord(letter) <= 0xFE0F]
    return unicodedata.normalize("NFKC", "".join(plain)).casefold()


def crews(world: World, dojo: Row, now: datetime) -> Row:
    """Return the crews of all boards of a dojo, by key."""
    counted = counted_solves(world, dojo)
    values: Row = {}
    for days in (0, 7, 30):
        recent = in_window(counted, days, now)
        values[f"stats:crews:dojo:{dojo['dojo_id']}:{days}"] = on_board(world, recent)
        for index in modules_of(world, dojo):
            own = [solve for solve in recent if solve.module_index == index]
            values[f"stats:crews:module:{dojo['dojo_id']}:{index}:{days}"] = on_board(world, own)
    return values


def on_board(world: World, solves: list[CountedSolve]) -> list[Row]:
    entries = [entry for entry in board(world, solves) if tag(entry["name"])]
    found = []
    for name in {key(tag(entry["name"]) or "") for entry in entries}:
        members = [
            entry
            | {
                "challenges": sorted(
                    {solve.challenge_id for solve in solves if solve.user_id == entry["user_id"]}
                )
            }
            for entry in entries
            if key(tag(entry["name"]) or "") == name
        ]
        found.append(
            {
                "key": name,
                "tag": tag(members[0]["name"]),
                "score": sum(member["solves"] for member in members),
                "unique": len({each for member in members for each in member["challenges"]}),
                "best_rank": min(member["rank"] for member in members),
                "members": members,
            }
        )

    def order(crew: Row, number: str) -> tuple[int, int, int, str]:
        return -crew[number], len(crew["members"]), crew["best_rank"], crew["key"]

    for rank, crew in enumerate(sorted(found, key=lambda crew: order(crew, "unique")), start=1):
        crew["unique_rank"] = rank
    found.sort(key=lambda crew: order(crew, "score"))
    return [crew | {"rank": rank} for rank, crew in enumerate(found, start=1)]
