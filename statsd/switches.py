"""Switches in the environment: the booleans of the contract, section 5.

The web half and the daemon read them with this parser, so that a value has one meaning.
"""

import os
from collections.abc import Mapping

from statsd.errors import SettingsError

WORDS = {"0": False, "1": True, "false": False, "true": True}


def parse_switch(name: str, text: str) -> bool:
    """Return the boolean in `text`, in upper or lower case; `name` is for the error only.

    Raises SettingsError for any text but 0, 1, true and false, also for the empty text.
    """
    try:
        return WORDS[text.lower()]
    except KeyError:
        raise SettingsError(f"{name} is {text!r}: it takes 0, 1, true or false") from None


def read_switch(name: str, *, default: bool, environ: Mapping[str, str] = os.environ) -> bool:
    """Return the switch `name` of the environment, or `default` where it is not set."""
    text = environ.get(name)
    return default if text is None else parse_switch(name, text)
