"""Dojos, users and awards of a made-up platform: the same for the same seed and moment.

In every shape the sample covers the whole contract: dojos of every type, shared, doubled, optional
and nameless challenges, visibilities, hidden users, hostile names and conflicting awards. Rows are
tuples in the order of the columns in `statsd.schema`.
"""

import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import accumulate
from random import Random

SampleRow = tuple[object, ...]

HISTORY = timedelta(days=3 * 365)

KINDS: tuple[tuple[bool | None, str | None], ...] = (
    (True, "public"),
    (False, "course"),
    (False, "public"),
    (True, None),
    (False, None),
    (False, "hidden"),
    (False, "example"),
    (None, "public"),
    (None, None),
    (True, "course"),
)
"""`official` and `data.type` of the dojos, in turn."""

BELTS = ("orange", "yellow", "green", "purple", "blue", "brown", "red", "black")
EMOJIS = ("🐍", "🔥", "🧙‍♀️", "❤️", "🏴‍☠️", "𓆏", "<b>")
TOPICS = ("web", "heap", "kernel", "crypto", "shell", "race", "format", "assembly", "network")
LEVELS = ("basics", "dojo", "in-depth", "drills", "finals")
FIRST = ("ada", "bob", "chloé", "dmitri", "eve", "石川", "مها", "Ægir", "noor", "zoë")
LAST = ("smith", "o'neil", "von der Au", "Ø", "🦊", "null", "lee", "ابن", "García", "0")
HOSTILE = (
    "<script>alert({})</script>",
    "\"; DROP TABLE users; -- {} 'x'",
    "\u202egnirts {}",
    "%s%n ${{7*7}} \\{}",
    "&lt;b&gt;\a{}",
    "A\u0301\u0328 Z\u200b{}\u200d",
    "[{}",
    " {}\t\n",
)
CREWS = (
    "[shell]",
    "[SHELL]",
    "[\uff33\uff28\uff25\uff2c\uff2c]",  # full width: the same crew after NFKC
    "[she\u200bll] ",
    "[night owls]",
    "[night  owls]\n",
    "[❤️]",
    "[❤]",
    "[straße]",
    "[STRASSE]",
    "[\u202etfel]",
    "[x] [y]",
    "[[nested]]",
    "[]",
    "[\ufe0f]",
    "[a tag that is far too long]",
    "[not last] indeed",
)


class Shape(StrEnum):
    """Who solves what."""

    WALK = "walk"
    """Users walk one dojo after another, and rarely have solves in more than a few."""
    SCATTER = "scatter"
    """Users solve here and there, and most dojos borrow many challenges from others."""
    GIANT = "giant"
    """Nine of ten users are in one dojo; each of ten times as many others has a handful."""


@dataclass(frozen=True)
class Layout:
    """The content of a dojo: the least and the greatest number of modules, and of challenges."""

    modules: tuple[int, int] = (2, 15)
    challenges: tuple[int, int] = (3, 15)
    """In each module."""
    borrowing: int = 0
    """The number of modules, the last ones, that have challenges of other dojos only."""
    borrowed: float = 0.05
    """The share of such challenges in the other modules."""
    lends: bool = True
    """Whether other dojos borrow this one's challenges."""
    admins: int = 3
    """The greatest number of admins."""


LARGEST = {
    Shape.WALK: Layout(),
    Shape.SCATTER: Layout((10, 10), (10, 10), borrowed=0),
    Shape.GIANT: Layout((30, 30), (20, 20), lends=False),
}
"""The layout of the most popular dojo."""
OTHERS = {
    Shape.WALK: Layout(),
    Shape.SCATTER: Layout((10, 10), (10, 10), borrowing=4, borrowed=0),
    Shape.GIANT: Layout((1, 3), (3, 8), admins=1),
}
"""The layout of all other dojos."""
SMALL_DOJOS = 10  # of a giant's sample, for each dojo of other shapes


@dataclass
class Dojos:
    """All dojos with their modules and challenges, the most popular first."""

    dojos: list[SampleRow] = field(default_factory=list)
    modules: list[SampleRow] = field(default_factory=list)
    challenges: list[SampleRow] = field(default_factory=list)
    visibilities: list[SampleRow] = field(default_factory=list)
    own: list["array[int]"] = field(default_factory=list)
    """For each dojo the ids of its own challenges, in order; borrowed ones belong to another."""
    lent: list["array[int]"] = field(default_factory=list)
    """Those of the dojos from which others borrow."""
    content: list[list["array[int]"]] = field(default_factory=list)
    """For each dojo the ids of all challenges of each module, borrowed ones included."""
    emojis: list[tuple[str, str, str]] = field(default_factory=list)
    """Hexadecimal dojo id, name and emoji of each dojo that awards an emoji."""

    popularity: list[float] = field(default_factory=list)
    """Cumulated weights, by Zipf's law."""

    @property
    def challenge_rows(self) -> Iterator[SampleRow]:
        """Return the rows of the table `challenges`."""
        return ((number,) for own in self.own for number in own)


def chance(rng: Random, probability: float) -> bool:
    """Return True with this probability."""
    return rng.random() < probability


def make_dojos(rng: Random, count: int, now: datetime, shape: Shape = Shape.WALK) -> Dojos:
    """Return `count` dojos, or those of a giant's sample; the ids of challenges start at 1."""
    made = Dojos()
    if shape == Shape.GIANT:
        count = 1 + SMALL_DOJOS * count
    ids = rng.sample(range(-(2**31), 2**31), count)
    borrowed = KINDS.index((False, None)), KINDS.index((None, None))
    for number, dojo_id in enumerate(ids):
        official, kind = KINDS[number % len(KINDS)]
        slug = f"{rng.choice(TOPICS)}-{rng.choice(LEVELS)}-{number}"
        if number % len(KINDS) == borrowed[1]:  # two dojos that differ only in their dojo_id
            slug = str(made.dojos[number - borrowed[1] + borrowed[0]][1])
        name = rng.choice((slug.title(), f"{slug} <i>&amp;</i> “{number}”"))
        data: dict[str, object] = {"type": kind} if kind else {}
        if number % 2:
            data["award"] = {"emoji": EMOJIS[number // 2 % len(EMOJIS)]}
            made.emojis.append((f"{dojo_id & 0xFFFFFFFF:08x}", name, EMOJIS[number // 2 % 7]))
        elif number % 4 == 0:
            data["award"] = {"belt": BELTS[number // 4 % len(BELTS)]}
        password = "hunter2" if number % 3 == 1 else None
        made.dojos.append((dojo_id, slug, name, official, password, json.dumps(data)))
        _add_challenges(made, rng, dojo_id, now, OTHERS[shape] if number else LARGEST[shape])
    made.popularity = list(accumulate(1 / rank for rank in range(1, count + 1)))
    return made


def _add_challenges(made: Dojos, rng: Random, dojo_id: int, now: datetime, layout: Layout) -> None:
    """Fill a dojo with modules and challenges."""
    fresh = made.own[-1][-1] + 1 if made.own else 1
    own = array("I")
    content = []
    modules = list(range(rng.randint(*layout.modules)))
    made.modules += ((dojo_id, index, f"module-{index}", f"Module {index}") for index in modules)
    first_borrowed = len(modules) - layout.borrowing
    if len(made.dojos) % 5 == 1:
        modules.append(99)  # a deleted module, whose challenges stayed
    for module in modules:
        borrowed = 1.0 if layout.borrowing and module >= first_borrowed else layout.borrowed
        content.append(array("I"))
        for index in range(rng.randint(*layout.challenges)):
            if own and chance(rng, 0.03):
                challenge = rng.choice(own)  # the same challenge twice
            elif made.lent and chance(rng, borrowed):
                challenge = rng.choice(rng.choice(made.lent))  # a challenge of another dojo
            else:
                challenge, fresh = fresh, fresh + 1
                own.append(challenge)
            content[-1].append(challenge)
            key = (dojo_id, module, index)
            name = None if chance(rng, 0.04) else f"Level {index} <{module}>"
            required = not chance(rng, 0.06)
            made.challenges.append((*key, challenge, f"level-{module}-{index}", name, required))
            if chance(rng, 0.15):
                made.visibilities.append((*key, *_visibility(rng, now)))
    made.own.append(own)
    made.content.append(content)
    if layout.lends:
        made.lent.append(own)


def _visibility(rng: Random, now: datetime) -> tuple[datetime | None, datetime | None]:
    """Return `start` and `stop`; a few of them are within the next hour."""
    past = now - HISTORY * rng.random() / 2
    delayed = past + (now - past) * rng.random()
    future = now + timedelta(hours=1 if chance(rng, 0.1) else 24 * 90) * rng.random()
    choices = (
        (past, None),
        (None, delayed),
        (past, delayed),
        (past, future),
        (None, future),
        (future, None),
        (future, future + timedelta(days=30)),
        (None, None),
    )
    return rng.choices(choices, weights=(6, 2, 2, 3, 2, 2, 1, 1))[0]


def make_users(rng: Random, count: int) -> Iterator[SampleRow]:
    """Return `count` users with unique names; ids start at 1."""
    for number in range(1, count + 1):
        name = f"{rng.choice(FIRST)} {rng.choice(LAST)} {number}"
        if chance(rng, 0.04):
            name = rng.choice(HOSTILE).format(number)
        if chance(rng, 0.12):  # some tags are far more common than others
            name = f"{name} {CREWS[int(len(CREWS) * rng.random() ** 2)]}"
        website = f"https://example.org/~{number}" if chance(rng, 0.2) else None
        if chance(rng, 0.01):
            website = 'javascript:alert("<b>")'
        hidden = chance(rng, 0.02)
        kind = "admin" if number == 1 or chance(rng, 0.005) else "user"
        yield (number, name, f"user{number}@example.com", website, hidden, kind)


def make_awards(rng: Random, users: int, dojos: Dojos, now: datetime) -> list[SampleRow]:
    """Return belts and emojis ordered by date; ids start at 1."""
    awards = _conflicting_awards(dojos, now)
    for user in range(1, users + 1):
        if chance(rng, 0.06):
            highest = min(int(rng.expovariate(0.6)), len(BELTS) - 1)
            awards += _belts(rng, user, highest, now)
        if dojos.emojis and chance(rng, 0.08):
            category, name, icon = rng.choice(dojos.emojis)
            kind = rng.choice(("CURRENT", "CURRENT", "STALE"))
            text = f"Awarded for completing {name}"
            awards.append((user, "emoji", kind, text, _moment(rng, now), category, icon))
    awards.sort(key=lambda award: str(award[4]))
    return [(number, *award) for number, award in enumerate(awards, 1)]


def _belts(rng: Random, user: int, highest: int, now: datetime) -> Iterator[SampleRow]:
    """Return a user's belts, lowest first; one user in ten gets the highest belt twice."""
    again = chance(rng, 0.1)
    dates = sorted(_moment(rng, now) for _ in range(highest + 1 + again))
    colors = [*BELTS[: highest + 1], *BELTS[highest : highest + again]]
    for date, color in zip(dates, colors, strict=True):
        yield (user, "belt", color, f"The {color} belt", date, None, None)


def _conflicting_awards(dojos: Dojos, now: datetime) -> list[SampleRow]:
    """Return the difficult cases of the contract, for users 1 to 3 of every sample."""
    date = now - timedelta(days=100)
    category, name, icon = dojos.emojis[0] if dojos.emojis else ("00000000", "none", "🐍")
    return [
        (1, "belt", "pink", "no colour of a belt", date, None, None),
        (1, "standard", "Supporter", "neither belt nor emoji", date, None, None),
        (1, "emoji", "CUSTOM", "first", date, None, "🔥"),
        (1, "emoji", "CUSTOM", "second <b>", date + timedelta(1), None, "🔥"),
        (1, "emoji", "CUSTOM", "third", date + timedelta(2), category, "🔥"),
        (2, "emoji", "CURRENT", f"Awarded for completing {name}", date, category, icon),
        (2, "emoji", "STALE", f"Awarded for completing {name}", date, category, icon),
        (2, "emoji", "CURRENT", "of a dojo that is gone", date, "deadbeef", icon),
        (2, "emoji", "CUSTOM_STALE", "both", date, None, icon),
        (3, "belt", "orange", "", date, None, None),
        (3, "belt", "orange", "", date, None, None),
    ]


def _moment(rng: Random, now: datetime) -> datetime:
    return now - HISTORY * rng.random()
