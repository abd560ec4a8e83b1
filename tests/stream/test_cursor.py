"""Where the consumer reads next, how much, and what it leaves alone."""

from collections.abc import Sequence

from statsd.stream.cursor import FIRST_COUNT, LARGE_BATCH, Paging
from statsd.stream.event_stream import NEW, PENDING, Entry


def entries(first: int, count: int, data: bytes = b"{}") -> list[Entry]:
    return [Entry(f"{number}-0", data, deleted=False) for number in range(first, first + count)]


def step(paging: Paging, page: Sequence[Entry]) -> list[str]:
    """Read a page and handle it; return the ids of what was to be handled."""
    paging.begin()
    taken = paging.take(page)
    paging.done()
    return [entry.id for entry in taken]


def fail(paging: Paging, page: Sequence[Entry], *, suspect: bool = True) -> None:
    paging.begin()
    paging.take(page)
    paging.failed(suspect=suspect)


def test_pending_entries_are_read_to_the_end_and_then_new_ones() -> None:
    paging = Paging(500)
    assert paging.start == PENDING
    step(paging, entries(1, 2))
    assert paging.start == "2-0"
    step(paging, [])
    assert paging.start == NEW
    step(paging, entries(3, 2))
    assert paging.start == NEW


def test_pending_entries_are_read_from_the_first_where_others_came_in_meanwhile() -> None:
    paging = Paging(500)
    paging.begin()
    paging.take(entries(1, 2))
    paging.again()
    paging.done()
    assert paging.start == PENDING


def test_more_is_read_each_time_and_less_after_an_error_or_much_data() -> None:
    paging = Paging(500)
    counts = []
    for _ in range(5):
        counts.append(paging.count)
        step(paging, entries(1, 1))
    assert counts == [FIRST_COUNT, 100, 200, 400, 500]
    fail(paging, entries(1, 500), suspect=False)
    assert paging.count == FIRST_COUNT
    step(paging, entries(1, 1, bytes(LARGE_BATCH + 1)))
    assert paging.count == FIRST_COUNT // 4


def test_where_a_batch_may_be_to_blame_fewer_are_read_until_one_is_left_alone() -> None:
    paging = Paging(500)
    counts = []
    while paging.count > 1:
        fail(paging, entries(1, paging.count))
        assert paging.start == PENDING
        counts.append(paging.count)
    assert counts == [12, 3, 1]
    fail(paging, entries(1, 1))
    assert step(paging, entries(1, 1)) == []
    assert step(paging, entries(2, 1)) == ["2-0"]
    assert paging.count == 1  # another like it may follow
    step(paging, [])
    assert paging.start == NEW
    step(paging, entries(3, 1))
    assert paging.count > 1


def test_an_outage_leaves_nothing_alone() -> None:
    paging = Paging(500)
    fail(paging, entries(1, 1), suspect=False)
    assert step(paging, entries(1, 1)) == ["1-0"]


def test_what_is_in_hand_or_left_alone_is_kept() -> None:
    paging = Paging(500)
    fail(paging, entries(1, 1))
    assert paging.kept == {"1-0"}
    paging.begin()
    paging.take(entries(1, 3))
    assert paging.kept == {"1-0", "2-0", "3-0"}
    paging.done()
    assert paging.kept == {"1-0"}
