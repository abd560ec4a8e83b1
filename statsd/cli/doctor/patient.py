"""A server under examination."""

import asyncio
import re
from collections.abc import AsyncIterator, Collection

from asyncpg import InterfaceError, PostgresError
from redis import RedisError
from sqlalchemy.exc import SQLAlchemyError

from statsd.cli.doctor.finding import Finding, Level
from statsd.errors import MissingTableError, StatsdError
from statsd.servers.outages import brief, is_outage

_TROUBLE = (OSError, RedisError, PostgresError, InterfaceError, SQLAlchemyError, StatsdError)
_ACCOUNT = re.compile(r"""\b(user|role)(:? )(?:"[^"]*"|'[^']*'|\S+(?= has no))""", re.IGNORECASE)


class Patient:
    """One server, which is asked until it is gone."""

    def __init__(self, name: str, private: Collection[str], patience: float) -> None:
        """`private` are words of its address that are not to be shown.

        A check may take `patience` seconds; who takes longer is gone.
        """
        self._name = name
        self._patience = patience
        self._private = private
        self._has_answered = False
        self.is_gone = False

    async def examine(self, subject: str, check: AsyncIterator[Finding]) -> list[Finding]:
        """Return what a check yields; and where it could not be made, that and why."""
        if self.is_gone:
            what = f"not looked at, as {self._name} does not serve"
            return [Finding(Level.WARNING, subject, what, f"mend {self._name} first")]
        try:
            async with asyncio.timeout(self._patience):
                found = [each async for each in check]
        except _TROUBLE as error:
            return [self._failed(subject, error)]
        self._has_answered = True
        return found

    def _failed(self, subject: str, error: Exception) -> Finding:
        if isinstance(error, MissingTableError):
            advice = "let the web application make it; the daemon waits for that"
            return Finding(Level.DANGER, subject, self._told(str(error)), advice)
        if isinstance(error, StatsdError):  # what no waiting mends
            self.is_gone = not self._has_answered
            advice = "correct the setting, or what the server allows"
            return Finding(Level.DANGER, subject, self._told(str(error)), advice)
        late = f"no answer within {self._patience:g} s"
        what = late if isinstance(error, TimeoutError) else self._told(brief(error))
        if is_outage(error):
            self.is_gone = True
            who = "" if subject == self._name else f"{self._name} "
            advice = "mend it; the daemon waits, and goes on by itself"
            return Finding(Level.DANGER, subject, f"{who}does not serve: {what}", advice)
        advice = "look yourself, or allow it to whom the address names"
        return Finding(Level.WARNING, subject, f"could not be looked at: {what}", advice)

    def _told(self, text: str) -> str:
        """Return what a server said, without the names of its users."""
        text = _ACCOUNT.sub(r"\1\2***", text.rstrip("."))
        for word in self._private:
            text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", "***", text)
        return text
