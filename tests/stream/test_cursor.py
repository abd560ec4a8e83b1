"""The next read of the consumer: position, size and postponed entries."""

from collections.abc import Sequence

from statsd.stream.cursor import FIRST_COUNT, LARGE_BATCH, StreamCursor
from statsd.stream.event_stream import NEW, PENDING, Entry


def entries(first: int, count: int, data: bytes = b"{}") -> list[Entry]:
    return [Entry(f"{number}-0", data, deleted=False) for number in range(first, first + count)]


def step(cursor: StreamCursor, page: Sequence[Entry]) -> list[str]:
    """Read a page and handle it; return the ids of the entries to handle."""
    cursor.begin()
    batch = cursor.select(page)
    cursor.done()
    return [entry.id for entry in batch]


def fail(cursor: StreamCursor, page: Sequence[Entry], *, suspect: bool = True) -> None:
    cursor.begin()
    cursor.select(page)
    cursor.failed(suspect=suspect)


def test_pending_entries_are_read_to_the_end_and_then_new_ones() -> None:
    cursor = StreamCursor(500)
    assert cursor.start == PENDING
    step(cursor, entries(1, 2))
    assert cursor.start == "2-0"
    step(cursor, [])
    assert cursor.start == NEW
    step(cursor, entries(3, 2))
    assert cursor.start == NEW


def test_after_a_restart_pending_entries_are_read_from_the_first() -> None:
    cursor = StreamCursor(500)
    cursor.begin()
    cursor.select(entries(1, 2))
    cursor.restart()
    cursor.done()
    assert cursor.start == PENDING


def test_the_page_size_grows_and_shrinks_after_an_error_or_large_entries() -> None:
    cursor = StreamCursor(500)
    counts = []
    for _ in range(5):
        counts.append(cursor.count)
        step(cursor, entries(1, 1))
    assert counts == [FIRST_COUNT, 100, 200, 400, 500]
    fail(cursor, entries(1, 500), suspect=False)
    assert cursor.count == FIRST_COUNT
    step(cursor, entries(1, 1, bytes(LARGE_BATCH + 1)))
    assert cursor.count == FIRST_COUNT // 4


def test_after_suspect_errors_fewer_entries_are_read_until_one_is_postponed() -> None:
    cursor = StreamCursor(500)
    counts = []
    while cursor.count > 1:
        fail(cursor, entries(1, cursor.count))
        assert cursor.start == PENDING
        counts.append(cursor.count)
    assert counts == [12, 3, 1]
    fail(cursor, entries(1, 1))
    assert step(cursor, entries(1, 1)) == []
    assert step(cursor, entries(2, 1)) == ["2-0"]
    assert cursor.count == 1  # a similar entry may follow
    step(cursor, [])
    assert cursor.start == NEW
    step(cursor, entries(3, 1))
    assert cursor.count > 1


def test_an_outage_postpones_no_entry() -> None:
    cursor = StreamCursor(500)
    fail(cursor, entries(1, 1), suspect=False)
    assert step(cursor, entries(1, 1)) == ["1-0"]


def test_entries_of_the_batch_and_postponed_entries_are_kept() -> None:
    cursor = StreamCursor(500)
    fail(cursor, entries(1, 1))
    assert cursor.kept == {"1-0"}
    cursor.begin()
    cursor.select(entries(1, 3))
    assert cursor.kept == {"1-0", "2-0", "3-0"}
    cursor.done()
    assert cursor.kept == {"1-0"}
