"""Tags in names: their syntax, how they are shown, and which of them form one crew."""

import pytest
from hypothesis import example, given, settings, strategies as st

from statsd.calculators.crew_tags import Member, key_of, member_of, ranked, tag_in
from tests.oracles.naive_crews import key as naive_key, tag as naive_tag

TABLE = [
    ("hacker [crew]", "crew"),
    ("hacker[crew]", "crew"),
    ("[crew]", "crew"),
    ("hacker [crew] \t\n", "crew"),
    ("hacker [ the  crew ]", "the crew"),
    ("hacker [a][b]", "b"),
    ("hacker [[b]", "b"),
    ("hacker [a] b", None),
    ("hacker [b]]", None),
    ("hacker [a[b]c]", None),
    ("hacker []", None),
    ("hacker [ ]", None),
    ("hacker ]", None),
    ("hacker [crew", None),
    ("hacker [crew]\u200b", None),
    ("hacker [cr\u200bew]", "crew"),
    ("hacker [cr\new]", "crew"),
    ("hacker [\u202ecrew\u202c]", "crew"),
    ("hacker [a\u3000b]", "a b"),
    ("hacker [\u200b\u200c]", None),
    ("hacker [\ufe0f]", None),
    ("hacker [" + "x" * 20 + "]", "x" * 20),
    ("hacker [" + "x" * 21 + "]", None),
    ("hacker [" + "x" * 20 + "\u200b" * 4 + "]", "x" * 20),
    ("hacker [" + "x" * 20 + "\u200b" * 5 + "]", None),
    ("hacker [\U0001f409\ufe0f]", "\U0001f409\ufe0f"),
    ("", None),
    (None, None),
]


@pytest.mark.parametrize(("name", "tag"), TABLE, ids=ascii)
def test_a_tag_is_the_bracket_group_that_ends_a_name(name: str | None, tag: str | None) -> None:
    assert tag_in(name) == tag


@pytest.mark.parametrize(
    ("one", "other"),
    [("Crew", "cREW"), ("\uff23rew", "crew"), ("stra\u00dfe", "STRASSE"), ("x\ufe0f", "x")],
    ids=ascii,
)
def test_equal_tags_have_one_key(one: str, other: str) -> None:
    assert key_of(one) == key_of(other)
    assert tag_in(f"a [{one}]") == one


awkward = st.characters() | st.sampled_from(
    "[]  \t\n\x00\x7f\xad\u034f\u180e\u200b\u2029\u202e\ufe0f"
)


@given(st.text(awkward, max_size=12), st.text(awkward, max_size=26), st.text(awkward, max_size=2))
@example("", "\U000e0041\U000e007f", "")
@settings(max_examples=1000)
def test_any_name_has_one_tag_or_none(before: str, within: str, after: str) -> None:
    for name in (f"{before}[{within}]{after}", before + within + after):
        found = tag_in(name)
        assert found == naive_tag(name)
        if found is not None:
            assert key_of(found) == naive_key(found) != ""
            assert tag_in(f"[{found}]") == found
            assert 1 <= len(found) <= 20


def member(rank: int, solves: int, name: str, *challenges: int) -> Member:
    entry = {"rank": rank, "solves": solves, "user_id": rank, "name": name, "email": None}
    return member_of(entry, challenges)


def test_crews_are_ranked_by_solves_and_by_challenges() -> None:
    found = ranked(
        [
            member(4, 2, "d [a]", 2, 1),
            member(1, 3, "a [a]", 1, 2, 3),
            member(2, 3, "b [b]", 4, 5, 6),
            member(3, 2, "c [B]", 8, 7),
            member(5, 1, "nobody"),
        ]
    )
    assert [(crew["tag"], crew["rank"], crew["unique_rank"]) for crew in found] == [
        ("a", 1, 2),
        ("b", 2, 1),
    ]
    assert [(crew["score"], crew["unique"], crew["best_rank"]) for crew in found] == [
        (5, 3, 1),
        (5, 5, 2),
    ]
    assert [each["challenges"] for each in found[0]["members"]] == [[1, 2, 3], [1, 2]]


def test_of_equal_crews_the_one_with_fewer_members_comes_first_then_the_better_one() -> None:
    found = ranked(
        [
            member(1, 1, "a [two]", 1),
            member(2, 1, "b [two]", 2),
            member(3, 2, "c [late]", 1, 2),
            member(4, 2, "d [later]", 1, 2),
        ]
    )
    assert [crew["key"] for crew in found] == ["late", "later", "two"]
