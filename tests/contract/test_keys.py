import pytest
from hypothesis import example, given, strategies as st

from statsd import keys

dojo_ids = st.integers(-(2**31), 2**31 - 1)
slugs = st.from_regex(r"[a-z0-9_-]{1,32}", fullmatch=True)


@pytest.mark.parametrize(
    ("dojo_id", "reference"),
    [
        (1, "intro~00000001"),
        (0, "intro~00000000"),
        (-1, "intro~ffffffff"),
        (-(2**31), "intro~80000000"),
        (2**31 - 1, "intro~7fffffff"),
        (-559038737, "intro~deadbeef"),
    ],
)
def test_a_reference_id_ends_in_the_dojo_id_as_eight_unsigned_hex_digits(
    dojo_id: int, reference: str
) -> None:
    assert keys.reference_id(dojo_id, "intro", official=False) == reference
    assert keys.split_reference_id(reference) == ("intro", dojo_id)


def test_the_reference_id_of_an_official_dojo_is_its_slug() -> None:
    assert keys.reference_id(-5, "intro", official=True) == "intro"
    assert keys.split_reference_id("intro") == ("intro", None)


@given(dojo_ids, slugs | st.text())
@example(-1, "intro~deadbeef")
@example(1, "~")
def test_a_reference_id_is_split_into_its_slug_and_dojo_id(dojo_id: int, slug: str) -> None:
    reference = keys.reference_id(dojo_id, slug, official=False)
    assert keys.split_reference_id(reference) == (slug, dojo_id)


@given(slugs)
def test_an_official_reference_id_names_no_dojo_id(slug: str) -> None:
    reference = keys.reference_id(1, slug, official=True)
    assert keys.split_reference_id(reference) == (slug, None)


@given(st.tuples(slugs, dojo_ids), st.tuples(slugs, dojo_ids))
def test_two_dojos_that_are_not_official_never_have_the_same_reference_id(
    one: tuple[str, int], other: tuple[str, int]
) -> None:
    slug, dojo_id = one
    other_slug, other_id = other
    same = keys.reference_id(dojo_id, slug, official=False) == keys.reference_id(
        other_id, other_slug, official=False
    )
    assert same == (one == other)


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "~",
        "intro~",
        "intro~deadbee",
        "intro~deadbeef0",
        "intro~DEADBEEF",
        "intro~0xdeadbe",
        "intro~ deadbee",
        "intro~+0000001",
        "intro~1_000_00",
        "intro~0000000g",
        "intro~\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661",
        "deadbeef",
    ],
)
def test_a_reference_without_eight_lower_case_hex_digits_at_its_end_is_a_slug(
    reference: str,
) -> None:
    assert keys.split_reference_id(reference) == (reference, None)


@given(st.text())
def test_any_text_can_be_split_and_an_id_fits_the_column(reference: str) -> None:
    slug, dojo_id = keys.split_reference_id(reference)
    if dojo_id is None:
        assert slug == reference
    else:
        assert -(2**31) <= dojo_id < 2**31
        assert keys.reference_id(dojo_id, slug, official=False) == reference


def test_the_public_keys_are_those_of_the_contract() -> None:
    assert (keys.STREAM, keys.GROUP, keys.DEAD_LETTERS) == (
        "stat:events",
        "stats-workers",
        "stat:events:dead",
    )
    assert keys.dojo_stats("intro~deadbeef") == "stats:dojo:intro~deadbeef"
    assert keys.scoreboard(-5) == "stats:scoreboard:dojo:-5:0"
    assert keys.scoreboard(-5, days=30) == "stats:scoreboard:dojo:-5:30"
    assert keys.scoreboard(-5, 0, 7) == "stats:scoreboard:module:-5:0:7"
    assert keys.challenge_solves(-5, 12) == "stats:challenge_solves:module:-5:12"
    assert keys.scores(-5) == "stats:scores:dojo:-5"
    assert keys.scores(-5, 0) == "stats:scores:module:-5:0"
    assert keys.updated("stats:belts") == "stats:belts:updated"


def test_private_keys_lie_under_stats_apart_from_the_public_ones() -> None:
    for key in (keys.heartbeat("host"), keys.requested("dojo_stats:1")):
        assert key.startswith("stats:internal:")
    assert keys.heartbeat("host") != keys.requested("host")
