"""Actions over HTTP, for a page's buttons: on loopback, for programs of this machine and no page of another origin."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from localmesh.http import UnreachableError, request
from localmesh.live_mesh import Action
from localmesh.process import StartError
from meshkit.background import end_tasks

__all__ = ["ActionError", "controls", "press"]

LOOPBACK = "127.0.0.1"
MAX_BODY = 10_000
# Seconds: starting Zipkin takes some.
PRESS_WITHIN = 120.0


class ActionError(Exception):
    """An action was not done; the text says why."""


async def press(url: str, body: Mapping[str, Any]) -> str:
    """Do an action, as a page's button does; the sentence that says what happened.

    Raises:
        ActionError: It was not done; says why.
    """
    try:
        _, answer = await request(url, body, timeout=PRESS_WITHIN)
        said = json.loads(answer)
        text = str(said["text"])
    except (UnreachableError, ValueError, LookupError, TypeError) as error:
        raise ActionError(f"{url}: {error}") from error
    if not said.get("ok"):
        raise ActionError(text)
    return text


@asynccontextmanager
async def controls(actions: Mapping[str, Action], port: int) -> AsyncIterator[str]:
    """Serve actions while the body runs; yields the URL.

    GET lists their names. POST to a name with a JSON object does it, and answers `{"ok": true, "text": "..."}` once it
    is done; 4xx or 5xx and `"ok": false` where it cannot be. They run in this event loop; what is under way in the end
    is cancelled.

    Args:
        actions: By name.
        port: On 127.0.0.1.
    """
    with _Server(actions, port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://{server.address}/"
        finally:
            await server.end()
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    """Has the actions, and runs them in the loop that it was made in."""

    def __init__(self, actions: Mapping[str, Action], port: int) -> None:
        super().__init__((LOOPBACK, port), _Handler)
        self.address = f"{LOOPBACK}:{self.server_port}"
        self.actions = actions
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[str]] = set()
        self._ended = False

    def act(self, name: str, body: Mapping[str, Any]) -> str:
        """Do an action; from another thread than the loop's."""
        return asyncio.run_coroutine_threadsafe(self._act(name, body), self._loop).result()

    async def _act(self, name: str, body: Mapping[str, Any]) -> str:
        if self._ended:
            raise StartError("the mesh is being stopped")
        task = asyncio.ensure_future(self.actions[name](body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await task

    async def end(self) -> None:
        """Cancel what is under way; nothing is begun any more."""
        self._ended = True
        await end_tasks(tuple(self._tasks))


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    # Seconds that a caller may take for its request.
    timeout = 5

    def do_GET(self) -> None:
        self._answer(200, sorted(self.server.actions))

    def do_POST(self) -> None:
        name, address = self.path.lstrip("/"), self.server.address
        # What a page of another origin can post without asking first has another type.
        if self.headers.get_content_type() != "application/json" or self.headers.get("host") != address:
            return self._answer(403, {"ok": False, "text": f"expected application/json, for {address}"})
        if name not in self.server.actions:
            return self._answer(404, {"ok": False, "text": "no such action"})
        try:
            text = self.server.act(name, self._body())
        except ValueError as error:
            return self._answer(400, {"ok": False, "text": str(error)})
        except (StartError, CancelledError) as error:
            return self._answer(500, {"ok": False, "text": str(error) or "the mesh is being stopped"})
        return self._answer(200, {"ok": True, "text": text})

    def _body(self) -> dict[str, Any]:
        size = int(self.headers.get("content-length", 0))
        body = json.loads(self.rfile.read(max(0, min(size, MAX_BODY))) or b"{}")
        if not isinstance(body, dict):
            raise ValueError("expected a JSON object")  # noqa: TRY004 - as for what is no JSON
        return body

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing: the console is the demo's."""
