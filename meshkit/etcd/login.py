"""Logging in to etcd: the user, and the token that each request then carries."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog

from meshkit.backoff import Backoff
from meshkit.errors import EtcdError
from meshkit.etcd.stubs import rpc, stubs
from meshkit.files import read_small

__all__ = ["EtcdLogin", "Metadata", "Token"]

log = structlog.stdlib.get_logger(__name__)

Metadata = tuple[tuple[str, str], ...]

# etcd has no status of its own for most of them.
TOKEN_REFUSED = ("invalid auth token", "revision of auth store is old", "user name is empty")
AUTH_NOT_ENABLED = "authentication is not enabled"
LOGIN_REFUSED = "authentication failed"
# Pauses after a login that was refused: each costs etcd a bcrypt, which is slow on purpose.
PAUSE_AFTER_REFUSAL = 5.0
REFUSED = Backoff(base=5.0, cap=60.0)


@dataclass(frozen=True, slots=True)
class EtcdLogin:
    """A user of etcd. The password's file is read at every login, so a changed password is used.

    Args:
        user: its name in etcd.
        password_file: holds the password; a line end after it is ignored.
    """

    user: str
    password_file: Path

    def password(self) -> str:
        """Read the password.

        Raises:
            ValueError: the file is missing, cannot be read, or holds none.
        """
        try:
            password = read_small(self.password_file).decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.password_file}: {error}") from error
        if not password:
            raise ValueError(f"{self.password_file}: expected a password, got an empty file")
        return password


class Token:
    """The token of a login, shared by all requests; without a login there is none.

    A password that is refused is tried again after 5 s and more, up to 65 s; a changed one at once.

    Args:
        login: user and password file; None: no log-in.
        timeout: seconds that a login may take.
    """

    def __init__(self, login: EtcdLogin | None, timeout: float) -> None:
        self._login = login
        self._timeout = timeout
        self._token: str | None = None
        self._logging_in = asyncio.Lock()
        self._refused = _RefusedLogin()

    async def metadata(self, channel: grpc.aio.Channel) -> Metadata:
        """Log in, unless that is done; what to send with each request then.

        Raises:
            EtcdError: the password's file cannot be used, or its password was refused.
            grpc.aio.AioRpcError: etcd did not take the login.
        """
        if self._login is not None and self._token is None:
            async with self._logging_in:
                # Another task may have done it while this one waited.
                if self._token is None:
                    self._token = await self._authenticate(channel, self._login)
        return self._metadata()

    def refused(self, reason: str | None, metadata: Metadata) -> bool:
        """Whether etcd's reason for an error is the token in this metadata, which is forgotten then."""
        if self._login is None or not _mentions(reason, TOKEN_REFUSED):
            return False
        # Unless there is a newer one by now.
        if metadata == self._metadata():
            self._token = None
        return True

    def _metadata(self) -> Metadata:
        return (("token", self._token),) if self._token else ()

    async def _authenticate(self, channel: grpc.aio.Channel, login: EtcdLogin) -> str:
        try:
            password = login.password()
        except ValueError as error:
            raise EtcdError(f"no login: {error}") from error
        self._refused.check(password)
        request = rpc.AuthenticateRequest(name=login.user, password=password)
        try:
            answer = await stubs.AuthStub(channel).Authenticate(request, timeout=self._timeout)
        except grpc.aio.AioRpcError as error:
            if _mentions(error.details(), (LOGIN_REFUSED,)):
                self._refused.remember(password, f"no login as {login.user!r}: {error.details()}")
                self._refused.check(password)
            if not _mentions(error.details(), (AUTH_NOT_ENABLED,)):
                raise
            log.warning("etcd's authentication is not enabled, going on without it", user=login.user)
            return ""
        if answer is None:
            raise EtcdError("no login: an answer that cannot be read")
        # It is sent as metadata, which gRPC would refuse with each request.
        if not (answer.token.isascii() and answer.token.isprintable()):
            raise EtcdError("no login: a token that cannot be sent")
        self._refused = _RefusedLogin()
        return str(answer.token)


class _RefusedLogin:
    """A password that etcd has refused: not tried again for a while, another one at once."""

    def __init__(self) -> None:
        self._password: str | None = None
        self._reason = ""
        self._times = 0
        self._again = 0.0

    def remember(self, password: str, reason: str) -> None:
        """Count a refusal."""
        self._times = self._times + 1 if password == self._password else 1
        self._password, self._reason = password, reason
        # Jitter above a minimum: programs that started together spread out, and none asks more often.
        pause = PAUSE_AFTER_REFUSAL + REFUSED.delay(self._times)
        self._again = asyncio.get_running_loop().time() + pause

    def check(self, password: str) -> None:
        """Raise the refusal as an EtcdError unless it is time to try again."""
        if password == self._password and asyncio.get_running_loop().time() < self._again:
            raise EtcdError(self._reason)


def _mentions(text: str | None, phrases: Sequence[str]) -> bool:
    return any(phrase in (text or "") for phrase in phrases)
