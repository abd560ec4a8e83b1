"""Findings of `statsd doctor`, and their levels."""

from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    """It works, but slowly or perhaps not for long; or it could not be checked."""
    DANGER = "danger"
    """Values are not computed, or events may be lost."""


class Finding(NamedTuple):
    """The result of one check."""

    level: Level
    subject: str
    """What was checked, in a word or two."""
    sentence: str
    advice: str = ""
    """What to do next; empty if nothing is to be done."""
