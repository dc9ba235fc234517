"""A loopback HTTP request, for readiness and for the JSON interfaces of etcd and Zipkin."""

import asyncio
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

from localmesh.waiting import NotYetError

# Without a proxy: these addresses are on this machine.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class UnreachableError(Exception):
    """No HTTP answer: refused, reset, or late."""


async def request(url: str, body: object = None, *, timeout: float = 2.0) -> tuple[int, bytes]:
    """GET `url`, or POST `body` to it as JSON; returns the status and the answer's bytes.

    Args:
        url: An http:// address on this machine.
        body: None for GET, else what to send.
        timeout: Seconds for connecting, and for each read.

    Raises:
        UnreachableError: There was no answer.
    """
    return await asyncio.to_thread(_request, url, body, timeout)


async def request_json(url: str, body: object = None, *, timeout: float = 2.0) -> Any:
    """As `request`, for an answer of status 200 that is JSON.

    Raises:
        UnreachableError: There was no answer, or another status.
    """
    status, answer = await request(url, body, timeout=timeout)
    if status != 200:
        raise UnreachableError(f"{url}: status {status}: {answer[:200].decode(errors='replace').strip()}")
    return json.loads(answer)


def answers(url: str) -> Callable[[], Awaitable[None]]:
    """What `until` can wait with: raises NotYetError until a GET of `url` is answered with status 200."""

    async def probe() -> None:
        try:
            status, answer = await request(url)
        except UnreachableError as error:
            raise NotYetError(str(error)) from error
        if status != 200:
            raise NotYetError(f"{url} answered {status}: {answer[:200]!r}")

    return probe


def _request(url: str, body: object, timeout: float) -> tuple[int, bytes]:
    data = None if body is None else json.dumps(body).encode()
    call = urllib.request.Request(url, data=data, headers={"content-type": "application/json"})
    try:
        with _opener.open(call, timeout=timeout) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(f"{url}: {getattr(error, 'reason', None) or error!r}") from error
