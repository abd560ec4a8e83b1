"""Findings about the servers: `statsd doctor` prints them, and the daemon acts on them."""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from statsd.errors import UnfitServerError


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
    is_setting: bool = False
    """Whether only another setting of the daemon mends it, so that waiting is of no use."""


def demand(findings: Iterable[Finding]) -> None:
    """Raise UnfitServerError for the first danger among some findings."""
    for finding in findings:
        if finding.level is Level.DANGER:
            raise unfit(finding)


def unfit(finding: Finding) -> UnfitServerError:
    """Return a danger as an error."""
    what = f"{finding.subject}: {finding.sentence}"
    return UnfitServerError(what, finding.advice, is_setting=finding.is_setting)
