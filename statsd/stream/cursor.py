"""The cursor of the consumer: its pending entries in pages, then new ones."""

from collections.abc import Collection, Sequence
from time import monotonic

from statsd.stream.event_stream import NEW, PENDING, Entry

FIRST_COUNT = 50  # entries read at first, and after an error
LARGE_BATCH = 4 * 1024 * 1024  # bytes
SHORTEST, LONGEST = 2.0, 300.0  # seconds for which an entry that delays others is postponed


class StreamCursor:
    """Where to read, how much, and which entries are postponed.

    One entry may delay all others: its look-up exceeds the statement timeout each time. That is a
    transient error, after which the same entries are read again. Therefore fewer are read each
    time, until that entry is alone in its batch. Then it stays pending, for a growing time.
    """

    def __init__(self, batch_size: int) -> None:
        """`batch_size` is how many entries are read at the most."""
        self._batch_size = batch_size
        self._page: Sequence[Entry] = ()
        self._batch: Sequence[Entry] = ()
        self._restarted = False
        self._postponed: dict[str, float] = {}  # until when (monotonic), by entry id
        self._delay = SHORTEST
        self._careful = False
        self.start = PENDING
        self.count = min(FIRST_COUNT, batch_size)

    @property
    def kept(self) -> Collection[str]:
        """Ids of the entries in this batch, and of the postponed entries."""
        return {*self._postponed, *(entry.id for entry in self._batch)}

    def restart(self) -> None:
        """Read the pending entries from the first one on, before new ones."""
        self.start = PENDING
        self._restarted = True

    def begin(self) -> None:
        """Prepare for a read: postponed entries may be due."""
        now = monotonic()
        waiting = {entry: until for entry, until in self._postponed.items() if until > now}
        if len(waiting) < len(self._postponed):
            self._postponed = waiting
            self.start = PENDING
        self._restarted = False

    def select(self, page: Sequence[Entry]) -> Sequence[Entry]:
        """Return the entries of a page that are to be handled now."""
        self._page = page
        self._batch = [entry for entry in page if entry.id not in self._postponed]
        return self._batch

    def done(self) -> None:
        """Go on after the page: its entries are acknowledged or postponed."""
        self.count = self._next_count()
        # Pending entries are read in pages to the end, unless `restart` was called meanwhile.
        if self.start != NEW and not self._restarted:
            self.start = self._page[-1].id if self._page else NEW
            if not self._page:
                self._careful = False
                self._delay = self._delay if self._postponed else SHORTEST
        self._page = self._batch = ()

    def failed(self, *, suspect: bool) -> None:
        """Read the batch again; `suspect`: one of its entries may have caused the error."""
        entries, self._batch = self._batch, ()
        self.restart()
        self.count = min(FIRST_COUNT, self.count)  # a page that was too large is not read again
        self._careful = suspect  # similar entries may follow
        if suspect and len(entries) > 1:
            self.count = max(1, len(entries) // 4)
        elif suspect and entries:
            self._postponed[entries[0].id] = monotonic() + self._delay
            self._delay = min(2 * self._delay, LONGEST)

    def _next_count(self) -> int:
        """Return how many entries to read next: fewer after large ones, which take memory."""
        if self._careful:
            return self.count
        size = sum(len(entry.data or b"") for entry in self._page)
        if size > LARGE_BATCH:
            return max(1, self.count // 4)
        return min(self._batch_size, self.count * 2)
