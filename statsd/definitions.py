"""Numbers of the contract that SQL, Python and Lua share (contract, section 4)."""

WINDOWS = (0, 7, 30)
"""The windows of scoreboards in days; 0 is all time."""

CHART_DAYS = (1, 7, 30, 60)
"""The days of a dojo's chart, counted back from today (UTC)."""

CHART_SPAN = 62
"""The number of days before today of which a dojo's state keeps solves and users."""

RECENT_DAYS = 7
"""The newest solves in a dojo's statistics are not older than this."""

RECENT_SOLVES = 5
"""The number of newest solves in a dojo's statistics."""

SCORE_UNIT = 2**31
"""A score on a live board is solves times this, plus the tie-break."""

SENTINEL = "-"
"""The member of each sorted set and hash of a live board that stands for no user."""

NO_DATE = -(2**53)
"""Stands for a missing date, in microseconds since 1970; a double of Lua holds it."""
