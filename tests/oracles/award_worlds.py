"""Small random databases that exercise every rule about belts and emojis."""

from datetime import timedelta

from hypothesis import strategies as st

from tests.oracles.naive import World
from tests.oracles.worlds import NOW

MOMENTS = [NOW - timedelta(days=days) for days in (0, 1, 2)]
COLORS = ["orange", "yellow", "green", "purple", "blue", "brown", "red", "black"]
DOJOS = [-7, 3, 2_000_000_000]
CATEGORIES = ["fffffff9", "00000003", "77359400", "0000000a", "", None]
"""The three dojos' categories, an unknown one, an empty one, and none."""

kinds = st.sampled_from(["public", "example", "course", "hidden", None, 7])
dojo_awards = st.sampled_from(
    [{"emoji": "🧪"}] * 5
    + [{"emoji": ""}, {"emoji": None}, {"belt": "black"}, "🧪", ["🧪"], None]
    + [{"emoji": 7}, {"emoji": False}, {"emoji": ["🧪"]}]
)


@st.composite
def award_worlds(draw: st.DrawFn) -> World:
    """Draw users, awards and dojos."""
    world = World(
        users=[
            {
                "id": i,
                "name": draw(st.sampled_from([f"<{i}>\u202e", f"user {i}"])),
                "website": draw(st.sampled_from(["https://example.com/?<b>", "", None])),
                "hidden": draw(st.sampled_from([False, False, False, True, None])),
            }
            for i in range(1, 5)
        ]
    )
    for dojo_id in draw(st.permutations(DOJOS))[: draw(st.integers(0, 3))]:
        data = {"type": draw(kinds), "award": draw(dojo_awards)}
        world.dojos.append(
            {
                "dojo_id": dojo_id,
                "id": f"d{abs(dojo_id) % 10}",
                "official": draw(st.sampled_from([True, False, None])),
                "data": draw(st.sampled_from([data, data, data, None, ["award"]])),
            }
        )
    for i in range(draw(st.integers(0, 30))):
        _add_award(draw, world, i + 1)
    return world


def _add_award(draw: st.DrawFn, world: World, number: int) -> None:
    kind = draw(st.sampled_from(["belt", "belt", "emoji", "emoji", "emoji", "other"]))
    # There are few colours and icons in one world, so that some occur twice.
    name = (
        draw(st.sampled_from([*COLORS[:2], COLORS[-1], *COLORS, "Black", "white", None]))
        if kind == "belt"
        else draw(st.sampled_from(["CUSTOM", "CUSTOM", "CURRENT", "STALE", "a STALE b", "", None]))
    )
    world.awards.append(
        {
            "id": number,
            "user_id": draw(st.integers(1, 4)),
            "type": kind,
            "name": name,
            "description": draw(st.sampled_from(["<one>", "two", "", None])),
            "date": draw(st.sampled_from([*MOMENTS, *MOMENTS, None])),
            "category": draw(st.sampled_from(CATEGORIES)),
            "icon": draw(st.sampled_from(["🧪", "🐉", "<i>", None])),
        }
    )
