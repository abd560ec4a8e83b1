"""Crews: users with the same tag at the end of their names; see docs/contract.md."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any, NamedTuple

LONGEST_GROUP = 24  # code points between the brackets
LONGEST_TAG = 20  # code points without the invisible ones

_GROUP = re.compile(rf"\[([^\[\]]{{1,{LONGEST_GROUP}}})\]")
# Invisible characters, and those that change how others are shown: controls, joiners, directions.
_INVISIBLE = re.compile(
    "[\u0000-\u001f\u007f-\u009f\u00ad\u034f\u17b4-\u17b5\u180b-\u180e\u200b-\u200f"
    "\u2028-\u202e\u2060-\u2064\u2066-\u2069\ufeff\U000e0000-\U000e007f]"
)
_VARIATIONS = re.compile("[\ufe00-\ufe0f]")


class Member(NamedTuple):
    """A user with a tag on a board."""

    rank: int
    solves: int
    name: str | None
    challenges: Sequence[int]
    """Sorted ids of the solved challenges, each once."""
    shown: Any
    """The user's entry on the scoreboard with these challenges, as the crew shows it."""


def member_of(entry: Mapping[str, Any], challenges: Iterable[int]) -> Member:
    """Return the member with this entry on a scoreboard, who solved these challenges."""
    own = sorted(challenges)
    shown = {**entry, "challenges": own}
    return Member(entry["rank"], entry["solves"], entry["name"], own, shown)


@lru_cache(maxsize=10_000)  # the same users are on many boards
def tag_in(name: str | None) -> str | None:
    """Return the tag at the end of a name as it is shown, or None."""
    trimmed = (name or "").rstrip()
    group = _GROUP.fullmatch(trimmed, max(trimmed.rfind("["), 0))
    if group is None:
        return None
    tag = " ".join(_INVISIBLE.sub("", group[1]).split())
    return tag if 1 <= len(tag) <= LONGEST_TAG and key_of(tag) else None


@lru_cache(maxsize=10_000)
def key_of(tag: str) -> str:
    """Return the key of a tag. Tags with equal keys form one crew."""
    return unicodedata.normalize("NFKC", _VARIATIONS.sub("", tag)).casefold()


def ranked(members: Iterable[Member]) -> list[dict[str, Any]]:
    """Return the crews of one board as they are cached, in the order of their ranks."""
    by_key: defaultdict[str, list[Member]] = defaultdict(list)
    for member in sorted(members, key=attrgetter("rank")):
        if tag := tag_in(member.name):
            by_key[key_of(tag)].append(member)
    crews = [_crew(key, own) for key, own in by_key.items()]
    for number, rank_field in (("unique", "unique_rank"), ("score", "rank")):
        crews = sorted(crews, key=partial(_order, number))
        for rank, crew in enumerate(crews, start=1):
            crew[rank_field] = rank
    return crews


def _order(number: str, crew: dict[str, Any]) -> tuple[int, int, int, str]:
    return -crew[number], len(crew["members"]), crew["best_rank"], crew["key"]


def _crew(key: str, members: Sequence[Member]) -> dict[str, Any]:
    return {
        "key": key,
        "tag": tag_in(members[0].name),
        "score": sum(member.solves for member in members),
        "unique": len(set().union(*(member.challenges for member in members))),
        "best_rank": members[0].rank,
        "members": [member.shown for member in members],
    }
