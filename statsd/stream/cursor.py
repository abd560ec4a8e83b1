"""What the consumer reads next: its own pending entries in pages, then new ones."""

from collections.abc import Collection, Sequence
from time import monotonic

from statsd.stream.event_stream import NEW, PENDING, Entry

FIRST_COUNT = 50  # entries read at first, and after an error
LARGE_BATCH = 4 * 1024 * 1024  # bytes
SHORTEST, LONGEST = 2.0, 300.0  # seconds for which an entry that held up the others is left


class StreamCursor:
    """Where to read, and how much; and what to leave alone for now.

    An entry may hold up all others: looking up what it touches takes longer than a statement
    may, time and again. That is an error of the moment, after which the same entries are read
    again. So fewer are read each time, and the one that is alone with the error at last is left
    pending for a while, which gets longer.
    """

    def __init__(self, batch_size: int) -> None:
        """`batch_size` is how many entries are read at the most."""
        self._batch_size = batch_size
        self._page: Sequence[Entry] = ()
        self._in_hand: Sequence[Entry] = ()
        self._anew = False
        self._left: dict[str, float] = {}
        self._leave_for = SHORTEST
        self._careful = False
        self.start = PENDING
        self.count = min(FIRST_COUNT, batch_size)

    @property
    def kept(self) -> Collection[str]:
        """Ids of the entries in hand, and of those that are left alone for now."""
        return {*self._left, *(entry.id for entry in self._in_hand)}

    def again(self) -> None:
        """Read the own pending entries, from the first, before new ones."""
        self.start = PENDING
        self._anew = True

    def begin(self) -> None:
        """Prepare for a read: what was left alone may be due."""
        now = monotonic()
        waiting = {entry: until for entry, until in self._left.items() if until > now}
        if len(waiting) < len(self._left):
            self._left = waiting
            self.start = PENDING
        self._anew = False

    def take(self, page: Sequence[Entry]) -> Sequence[Entry]:
        """Return those entries of a page that shall be handled now."""
        self._page = page
        self._in_hand = [entry for entry in page if entry.id not in self._left]
        return self._in_hand

    def done(self) -> None:
        """Go on after the page: what was to be handled is acknowledged."""
        self.count = self._next_count()
        # Pending entries are read in pages to the end; anew if others came in meanwhile.
        if self.start != NEW and not self._anew:
            self.start = self._page[-1].id if self._page else NEW
            if not self._page:
                self._careful = False
                self._leave_for = self._leave_for if self._left else SHORTEST
        self._page = self._in_hand = ()

    def failed(self, *, suspect: bool) -> None:
        """Read again what could not be handled; `suspect`: that may be due to what it is."""
        entries, self._in_hand = self._in_hand, ()
        self.again()
        self.count = min(FIRST_COUNT, self.count)  # a page that was too large is not read again
        self._careful = suspect  # others of the kind may follow
        if suspect and len(entries) > 1:
            self.count = max(1, len(entries) // 4)
        elif suspect and entries:
            self._left[entries[0].id] = monotonic() + self._leave_for
            self._leave_for = min(2 * self._leave_for, LONGEST)

    def _next_count(self) -> int:
        """Return how many entries to read next: fewer after large ones, which fill memory."""
        if self._careful:
            return self.count
        size = sum(len(entry.data or b"") for entry in self._page)
        if size > LARGE_BATCH:
            return max(1, self.count // 4)
        return min(self._batch_size, self.count * 2)
