"""What `statsd doctor` finds."""

from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, and may not for long, or is slower than it need be; or nobody can say."""
    DANGER = "danger"
    """Values are not computed, or events may be lost."""


class Finding(NamedTuple):
    """What one check found."""

    level: Level
    subject: str
    """What was looked at, in a word or two."""
    sentence: str
    advice: str = ""
    """What to do next; empty where nothing is to be done."""
