"""Checks of one server in bounded time, until the server is known to be gone."""

import asyncio
import re
from collections.abc import AsyncIterator, Collection

from asyncpg import InterfaceError, PostgresError
from redis import RedisError
from sqlalchemy.exc import SQLAlchemyError

from statsd.errors import StatsdError
from statsd.servers.errors import advice, brief, is_denied, is_outage
from statsd.servers.finding import Finding, Level

_SERVER_ERRORS = (OSError, RedisError, PostgresError, InterfaceError, SQLAlchemyError, StatsdError)
_ACCOUNT = re.compile(r"""\b(user|role)(:? )(?:"[^"]*"|'[^']*'|\S+(?= has no))""", re.IGNORECASE)


class ServerProbe:
    """Runs the checks of one server; once the server is gone, it runs no more of them."""

    def __init__(self, name: str, secrets: Collection[str], timeout: float) -> None:
        """`secrets` are words of the server's URL that are not to be shown.

        A server that does not answer a check within `timeout` seconds is gone.
        """
        self._name = name
        self._timeout = timeout
        self._secrets = secrets
        self._has_answered = False
        self.is_gone = False

    async def run(self, subject: str, check: AsyncIterator[Finding]) -> list[Finding]:
        """Return the findings of a check, or one finding that says why it could not be made."""
        if self.is_gone:
            sentence = f"not checked, as {self._name} does not serve"
            return [Finding(Level.WARNING, subject, sentence, f"repair {self._name} first")]
        try:
            async with asyncio.timeout(self._timeout):
                findings = [each async for each in check]
        except _SERVER_ERRORS as error:
            return [self._failed(subject, error)]
        self._has_answered = True
        self.is_gone = any(each.is_setting for each in findings)
        return findings

    def _failed(self, subject: str, error: Exception) -> Finding:
        if is_denied(error):
            sentence = f"a right is missing: {self._masked(brief(error))}"
            return Finding(Level.DANGER, subject, sentence, advice(error))
        if isinstance(error, StatsdError):  # waiting does not help
            self.is_gone = not self._has_answered
            mend = "correct the setting, or the rights on the server"
            return Finding(Level.DANGER, subject, self._masked(str(error)), mend)
        timed_out = f"no answer within {self._timeout:g} s"
        reason = timed_out if isinstance(error, TimeoutError) else self._masked(brief(error))
        if is_outage(error):
            self.is_gone = True
            server = "" if subject == self._name else f"{self._name} "
            return Finding(
                Level.DANGER, subject, f"{server}does not serve: {reason}", advice(error)
            )
        mend = "check it yourself, or give the user in the URL the right to"
        return Finding(Level.WARNING, subject, f"could not be checked: {reason}", mend)

    def _masked(self, text: str) -> str:
        """Return a server's message without the names of its users."""
        text = _ACCOUNT.sub(r"\1\2***", text.rstrip("."))
        for secret in self._secrets:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
        return text
