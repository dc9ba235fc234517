import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshkit.errors import EtcdError
from meshkit.etcd import EtcdLogin, login
from meshkit.etcd.stubs import rpc, stubs
from tests.support.fake_time import fake_time, now
from tests.support.fakes import rpc_error


class Auth:
    """Etcd's side of a login."""

    def __init__(self, password: str) -> None:
        self.password = password
        self.token = "t"
        self.asked = list[float]()

    def __call__(self, _: Any) -> "Auth":
        return self

    async def Authenticate(self, request: Any, **_: Any) -> Any:  # noqa: N802 - etcd's name
        self.asked.append(now())
        if request.password != self.password:
            details = "etcdserver: authentication failed, invalid user ID or password"
            raise rpc_error(grpc.StatusCode.INVALID_ARGUMENT, details)
        return rpc.AuthenticateResponse(token=self.token)


def test_a_wrong_password_is_seldom_tried_and_a_changed_one_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = Auth("right")
    monkeypatch.setattr(stubs, "AuthStub", auth)
    file = tmp_path / "password"
    file.write_text("wrong")
    channel: Any = None

    @fake_time
    async def run() -> None:
        token = login.Token(EtcdLogin("book", file), 2)
        for _ in range(600):
            with pytest.raises(EtcdError, match="authentication failed"):
                await token.metadata(channel)
            await asyncio.sleep(1)
        pauses = [after - before for before, after in zip(auth.asked, auth.asked[1:], strict=False)]
        assert min(pauses) >= 4
        assert max(pauses) <= 67
        before = len(auth.asked)
        file.write_text("right")
        assert await token.metadata(channel) == (("token", "t"),)
        assert len(auth.asked) == before + 1

    run()


def test_a_token_that_cannot_be_sent_is_no_login_and_the_next_one_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = Auth("right")
    monkeypatch.setattr(stubs, "AuthStub", auth)
    file = tmp_path / "password"
    file.write_text("right")
    channel: Any = None

    @fake_time
    async def run() -> None:
        token = login.Token(EtcdLogin("book", file), 2)
        for odd in ("a\nb", "\u00e9", "\0"):
            auth.token = odd
            with pytest.raises(EtcdError, match="a token that cannot be sent"):
                await token.metadata(channel)
        auth.token = "good.1"
        assert await token.metadata(channel) == (("token", "good.1"),)

    run()
