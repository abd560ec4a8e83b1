"""The errors of this package: one tree. Each message says what to do next."""


class StatsdError(Exception):
    """Something is wrong with the statistics service."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").splitlines()[0])


class SettingsError(StatsdError):
    """A setting is wrong; the message names the variable and what would be right."""


class InvalidEventError(StatsdError):
    """A stream entry is not an event of the contract; it goes to the dead letters."""


class UnfitServerError(StatsdError):
    """A server answers, but cannot be used as it is; the work waits until somebody mends it."""

    def __init__(
        self, message: str | None = None, advice: str = "", *, is_setting: bool = False
    ) -> None:
        super().__init__(message)
        self.advice = advice
        self.is_setting = is_setting
        """Whether only another setting of the daemon mends it."""


class DuplicateError(StatsdError):
    """A name was registered twice; remove one of the two."""


class MissingExtraError(StatsdError):
    """A part of this package needs libraries that are not installed."""
