"""Switches in the environment: the booleans of the contract, section 5.

The web half and the daemon read them with this parser, so that a value has one meaning.
"""

import logging
import os
from collections.abc import Mapping

from statsd.errors import SettingsError

log = logging.getLogger("statsd.client")

WORDS = {
    **dict.fromkeys(("0", "false", "no", "off"), False),
    **dict.fromkeys(("1", "true", "yes", "on"), True),
}
CHOICES = "0, 1, true, false, yes, no, on or off"


def parse_switch(name: str, text: str) -> bool:
    """Return the boolean in `text`, in upper or lower case; `name` is for the error only.

    Raises SettingsError for any other text, also for the empty one.
    """
    try:
        return WORDS[text.strip().lower()]
    except KeyError:
        raise SettingsError(f"{name} is {text!r}: it takes {CHOICES}") from None


def read_switch(name: str, *, default: bool, environ: Mapping[str, str] = os.environ) -> bool:
    """Return the switch `name` of the environment, or `default` where it is not set, or empty.

    A web application starts with any value: an invalid one is logged, and stands for the default.
    """
    text = environ.get(name, "").strip()
    try:
        return parse_switch(name, text) if text else default
    except SettingsError as error:
        log.error("%s; it counts as %d", error, default)  # noqa: TRY400 - a sentence for operators
        return default
