"""What can be done from the page: a name, a JSON object, and a sentence in return."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from meshkit.errors import MeshError

__all__ = ["Action", "ActionError", "RefusedActionError", "body_of", "check_origin", "forwarded"]

# Takes the body of the request; raises ValueError for one that makes no sense, MeshError where it cannot be done.
Action = Callable[[Mapping[str, Any]], Awaitable[str]]

# Seconds: starting a program takes some.
PATIENCE = 90.0
MAX_ANSWER = 64 * 1024
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


MAX_BODY = 16 * 1024


class RefusedActionError(Exception):
    """A request for an action that is not done.

    Args:
        status: of the answer, by HTTP.
        text: why, in a sentence.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class ActionError(MeshError):
    """An action that another program was asked for, and could not do."""


def check_origin(headers: Mapping[str, str]) -> None:
    """See that a request does not come from another site's page, whose scripts may post no JSON without being asked.

    Raises:
        RefusedActionError: it does.
    """
    if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise RefusedActionError(415, "expected application/json")
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != headers.get("host"):
        raise RefusedActionError(403, "another site's page asked for it")


async def body_of(stream: AsyncIterator[bytes]) -> dict[str, Any]:
    """The JSON object of a request; nothing at all is an empty one.

    Raises:
        RefusedActionError: it is too long.
        ValueError: it is something else.
    """
    raw = b""
    async for chunk in stream:
        raw += chunk
        if len(raw) > MAX_BODY:
            raise RefusedActionError(413, f"expected at most {MAX_BODY} bytes")
    try:
        body = json.loads(raw or b"{}")
    except RecursionError as error:
        raise ValueError("expected a JSON object") from error
    if not isinstance(body, dict):
        raise ValueError(f"expected a JSON object, got {type(body).__name__}")  # noqa: TRY004 - as other bad bodies
    return body


async def forwarded(url: str) -> dict[str, Action]:
    """The actions of another program on this machine: `GET url` lists their names, `POST url/<name>` does one.

    Raises:
        OSError: it does not answer.
    """
    names = await asyncio.to_thread(_get_names, url)

    def action(name: str) -> Action:
        async def forward(body: Mapping[str, Any]) -> str:
            return await asyncio.to_thread(_post, f"{url.rstrip('/')}/{name}", body)

        return forward

    return {name: action(name) for name in names}


def _get_names(url: str) -> list[str]:
    with _opener.open(url, timeout=5) as answer:
        names = json.loads(answer.read(MAX_ANSWER))
    return [str(name) for name in names]


def _post(url: str, body: Mapping[str, Any]) -> str:
    request = urllib.request.Request(
        url, data=json.dumps(dict(body)).encode(), headers={"content-type": "application/json"}
    )
    try:
        with _opener.open(request, timeout=PATIENCE) as answer:
            said = json.loads(answer.read(MAX_ANSWER))
    except urllib.error.HTTPError as error:
        with error:
            text = str(json.loads(error.read(MAX_ANSWER)).get("text", error.code))
        raise (ValueError if error.code == 400 else ActionError)(text) from error
    except (OSError, ValueError) as error:
        raise ActionError(f"no answer: {error}") from error
    return str(said.get("text", ""))
