"""A trace, read back from Zipkin for the page: a browser may ask only where the page came from."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from urllib.parse import urlsplit, urlunsplit

__all__ = ["ZipkinTraces"]

PATIENCE = 3.0
MAX_BYTES = 4 * 1024 * 1024
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ZipkinTraces:
    """Zipkin's API, beside the collector that spans are sent to.

    Args:
        collector: e.g. `http://127.0.0.1:9411/api/v2/spans`.
    """

    def __init__(self, collector: str) -> None:
        parts = urlsplit(collector)
        path = parts.path.removesuffix("/api/v2/spans").rstrip("/")
        self._root = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
        # Without user and password: it is shown.
        self.page = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], f"{path}/zipkin", "", ""))

    async def get(self, trace_id: str) -> tuple[int, bytes]:
        """A trace's spans as Zipkin's JSON: status 200, 404 while there is none, 503 where Zipkin does not answer."""
        try:
            return 200, await asyncio.to_thread(self._get, trace_id)
        except urllib.error.HTTPError as error:
            error.close()
            return (404 if error.code == 404 else 503), b"[]"
        except (OSError, ValueError):
            return 503, b"[]"

    def _get(self, trace_id: str) -> bytes:
        with _opener.open(f"{self._root}/api/v2/trace/{trace_id}", timeout=PATIENCE) as answer:
            body: bytes = answer.read(MAX_BYTES + 1)
        if len(body) > MAX_BYTES:
            raise ValueError("too long to show")
        return body
