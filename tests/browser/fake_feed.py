"""A program's admin port that plays made-up states of a mesh, for what is hard to reach with real programs.

`python -m tests.browser.fake_feed` serves all scenes at one port: `/three/`, `/none/`, `/one/`, `/fifty/`, `/quiet/`,
`/server/`, `/hostile/`, `/off/`, `/story/`.
"""

from __future__ import annotations

import argparse
import json
import mimetypes
import random
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

PAGE = Path(__file__).resolve().parents[2] / "meshkit/admin/page"
HISTORY = 300
ON_A_REPLICA = ["sicken", "slow", "hang", "garble", "kill", "heal"]
OF_THE_DEMO = ["etcd-start", "etcd-stop", "fewer", "more", "zipkin-start", "zipkin-stop"]
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"

Json = dict[str, Any]


class Scene:
    """A made-up program: `replicas` of them, `pace` calls/s in all.

    Args:
        replicas: how many there are.
        pace: calls per second of the client, spread evenly.
        trouble: let a replica fall sick and come back, a replica leave, etcd go away; told in history and marks.
        server: be a server's page.
        hostile: names and texts are markup.
        off: no buttons, and why.
    """

    def __init__(
        self,
        replicas: int = 3,
        pace: float = 42,
        *,
        trouble: bool = False,
        server: bool = False,
        hostile: bool = False,
        off: str | None = None,
    ) -> None:
        self.random = random.Random(replicas)
        self.pace = pace
        self.server = server
        self.hostile = hostile
        self.off = off
        self.trouble = trouble
        self.addresses = sorted(f"10.244.{1 + n % 3}.{11 + n // 3}:50051" for n in range(replicas))
        if hostile:
            self.addresses = [f"{HOSTILE}{n}" for n in range(replicas)]
        self.sick: dict[str, float] = {}  # address -> until when it stays ejected
        self.started = time.time()
        self.listeners: list[list[tuple[str, Json]]] = []
        self.wake = threading.Condition()
        self.sent = 0
        self.history: list[Json] = []
        self.marks: list[Json] = []
        self.calls: list[Json] = []
        self._past()

    def _past(self) -> None:
        now = time.time()
        for back in range(HISTORY, 0, -1):
            self.history.append(self.state(now - back, age=HISTORY - back))
        if self.trouble and len(self.addresses) > 1:
            first = self.addresses[1]
            self.marks += [
                self.mark(now - 262, "action", f"sicken {first}: 100 % of its calls answer UNAVAILABLE", first),
                self.mark(now - 259, "ejected", f"{first} is ejected for 10 s: 3 of its last 3 answers failed", first),
                self.mark(now - 221, "action", f"heal {first}", first),
                self.mark(now - 214, "back", f"{first} is back", first),
                self.mark(now - 160, "etcd-away", "etcd is away: the last known replicas stay in use"),
                self.mark(now - 131, "etcd-back", "etcd is back after 29 s"),
                self.mark(now - 70, "came", f"{self.addresses[-1]} came", self.addresses[-1]),
            ]
        if self.pace and not self.server:
            for n in range(100):
                self.calls.append(self.call(now - n / min(self.pace, 10) - 1, n))

    def mark(self, t: float, kind: str, text: str, instance: str | None = None) -> Json:
        text = HOSTILE + text if self.hostile else text
        return {
            "t": t,
            "kind": kind,
            "instance": instance,
            "text": text,
            "trace": f"{self.random.getrandbits(128):032x}",
        }

    def call(self, t: float, n: int) -> Json:
        attempts = []
        if self.trouble and n % 17 == 3:
            attempts.append({"instance": self.addresses[1 % len(self.addresses)], "code": "UNAVAILABLE"})
        attempts.append({"instance": self.addresses[n % len(self.addresses)] if self.addresses else "", "code": "OK"})
        return {
            "t": t,
            "seconds": round(self.random.lognormvariate(-4, 0.8), 5) * len(attempts),
            "code": "OK",
            "method": HOSTILE if self.hostile else "conversation",
            "trace": f"{self.random.getrandbits(128):032x}",
            "attempts": attempts if self.addresses else [],
        }

    def state(self, t: float, age: float | None = None) -> Json:
        """The second that ends at `t`; `age` is how far into the story of the past five minutes it is."""
        present = [] if self.server else list(self.addresses)
        ejected: dict[str, float] = {a: until for a, until in self.sick.items() if a in present}
        etcd_away = None
        if self.trouble and age is not None and len(present) > 1:
            if 41 <= age < 86:
                ejected[present[1]] = t - age + 86
            if 140 <= age < 169:
                etcd_away = t - age + 140
            if age < 230:
                present.pop()
        wave = 1 + 0.12 * self.random.uniform(-1, 1)
        total = self.pace * wave
        alive = [a for a in present if a not in ejected]
        instances: list[Json] = []
        for address in present:
            out = address in ejected
            jitter = self.random.uniform(-1, 1) if self.pace else 0
            got = 0 if out or not alive else max(0, round(total / len(alive) + jitter))
            p50 = self.random.uniform(0.0018, 0.0024) if got else None
            instances.append(
                {
                    "address": address,
                    "state": "ejected" if out else "ready",
                    "since": t - 12 if out else self.started - 600,
                    "until": ejected.get(address),
                    "calls": got,
                    "failed": 1 if out and self.random.random() < 0.1 else 0,
                    "in_flight": 0 if out else min(got, 2),
                    "p50": p50,
                    "p99": p50 * 9 if p50 else None,
                }
            )
        calls = round(total) if self.server else sum(one["calls"] for one in instances)
        retries = sum(one["failed"] for one in instances)
        self.sent += calls * 5
        client = not self.server
        return {
            "t": t,
            "span": 1.0,
            "calls": calls,
            "failed": 0,
            "retries": retries,
            "p50": self.random.uniform(0.0019, 0.0023) if calls else None,
            "p99": self.random.uniform(0.016, 0.024) if calls else None,
            "budget": {"tokens": 1000 - 9 * retries, "reserve": 1000} if client else None,
            "breaker": {"state": "closed", "until": None} if client else None,
            "etcd": {"away_since": etcd_away},
            "spans": {"sent": self.sent, "dropped": 0, "queued": calls % 7, "away_since": None},
            "limiter": None if client else {"waiting": calls % 3},
            "registered": None if client else True,
            "instances": instances,
        }

    def hello(self, zipkin: str | None) -> Json:
        return {
            "program": "book-server" if self.server else "book-client", "version": "0.1.0", "instance": "10.244.2.7",
            "service": HOSTILE if self.hostile else "book-service", "now": time.time(), "zipkin_ui": zipkin,
            "actions": [] if self.off or self.server else ON_A_REPLICA + OF_THE_DEMO, "actions_off": self.off,
            "history": [kept(state) for state in self.history[-HISTORY:]],
            "marks": self.marks[-200:], "calls": self.calls[-100:],
        }  # fmt: skip

    def act(self, name: str, body: Json) -> tuple[int, Json]:
        """Do what a button asks for, as far as the play goes."""
        address = body.get("instance")
        if name in ON_A_REPLICA and address not in self.addresses:
            return 400, {"ok": False, "text": f"{address} is not known"}
        text = f"{name} {address or ''}".strip()
        self.tell("mark", self.mark(time.time(), "action", text, address))
        if name == "sicken" and address:
            self.sick[address] = time.time() + 10
            self.tell("mark", self.mark(time.time(), "ejected", f"{address} is ejected for 10 s", address))
        if name == "heal" and address and self.sick.pop(address, None):
            self.tell("mark", self.mark(time.time(), "back", f"{address} is back", address))
        if name == "more":
            self.addresses.append(f"10.244.9.{len(self.addresses)}:50051")
            self.tell("mark", self.mark(time.time(), "came", f"{self.addresses[-1]} came", self.addresses[-1]))
        if name in ("fewer", "kill") and self.addresses:
            gone = address or self.addresses[-1]
            self.addresses.remove(gone)
            self.tell("mark", self.mark(time.time(), "went", f"{gone} went", gone))
        self.tell("state", {**self.state(time.time()), "span": 0.2})
        return 200, {"ok": True, "text": text}

    def tell(self, event: str, data: Json) -> None:
        with self.wake:
            {"state": self.history, "mark": self.marks, "call": self.calls}[event].append(data)
            for queue in self.listeners:
                queue.append((event, data))
            self.wake.notify_all()

    def run(self, stop: threading.Event) -> None:
        """Play on, a second at a time."""
        n = 0
        while not stop.wait(1):
            self.tell("state", self.state(time.time()))
            for _ in range(round(min(10, self.pace)) if self.addresses and not self.server else 0):
                n += 1
                self.tell("call", self.call(time.time(), n))

    def listen(self, zipkin: str | None) -> Iterator[tuple[str, Json]]:
        queue: list[tuple[str, Json]] = []
        with self.wake:
            queue.append(("hello", self.hello(zipkin)))
            self.listeners.append(queue)
        try:
            while True:
                with self.wake:
                    while not queue:
                        self.wake.wait()
                    messages, queue[:] = list(queue), []
                yield from messages
        finally:
            self.listeners.remove(queue)


def kept(state: Json) -> Json:
    """What a program keeps of a state for those that come later."""
    names = ("t", "span", "calls", "failed", "retries", "p50", "p99")
    counts = [{name: each[name] for name in ("address", "calls", "failed")} for each in state["instances"]]
    return {name: state[name] for name in names} | {"instances": counts}


SCENES: dict[str, Callable[[], Scene]] = {
    "none": lambda: Scene(0, 0),
    "one": lambda: Scene(1, 12),
    "three": lambda: Scene(3),
    "story": lambda: Scene(3, trouble=True),
    "fifty": lambda: Scene(50, 380, trouble=True),
    "quiet": lambda: Scene(3, 0),
    "server": lambda: Scene(0, 14, server=True),
    "hostile": lambda: Scene(3, trouble=True, hostile=True),
    "off": lambda: Scene(3, off="They are switched off: start book-client with --admin-actions."),
}


def trace_of(trace: str, scene: Scene) -> list[Json]:
    """Five spans as a call of the demo has them."""
    start = int(time.time() * 1e6)

    def span(number: int, parent: int | None, kind: str | None, name: str, times: tuple[int, int]) -> Json:
        found = {
            "traceId": trace,
            "id": f"{number:016x}",
            "name": HOSTILE if scene.hostile else name,
            "timestamp": start + times[0],
            "duration": times[1],
            "localEndpoint": {"serviceName": "book-server" if kind == "SERVER" else "book-client", "ipv4": "127.0.0.1"},
            "tags": {"rpc.system": "grpc", "attempt": "1"},
        }
        if kind:
            found["kind"] = kind
        if parent:
            found["parentId"] = f"{parent:016x}"
        return found

    return [
        span(1, None, None, "bookCaller", (0, 31_000)),
        span(2, 1, "CLIENT", "BookService/GetBookInfo", (400, 2_100)),
        span(3, 2, "SERVER", "BookService/GetBookInfo", (900, 1_000)),
        span(4, 1, "CLIENT", "BookService/GetBookList", (2_900, 27_800)),
        span(5, 4, "SERVER", "BookService/GetBookList", (3_400, 26_900)),
    ]


class Handler(BaseHTTPRequestHandler):
    """Routes of the admin port, below the name of a scene."""

    admin: FakeAdmin
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        _, name, *rest = urlsplit(self.path).path.split("/")
        if name not in SCENES:
            return self.answer(404, b"{}")
        scene = self.admin.scene(name)
        match rest:
            case [""]:
                self.answer(200, (PAGE / "index.html").read_bytes(), "text/html; charset=utf-8")
            case ["assets", file] if (PAGE / file).is_file():
                self.answer(200, (PAGE / file).read_bytes(), mimetypes.guess_type(file)[0] or "text/plain")
            case ["trace", trace]:
                self.admin.asked[trace] = self.admin.asked.get(trace, 0) + 1
                if self.admin.asked[trace] < 3:  # spans take a moment
                    return self.answer(404, b"{}")
                self.answer(200, json.dumps(trace_of(trace, scene)).encode())
            case ["events"] if not self.admin.cut.is_set():
                self.stream(scene)
            case _:
                self.answer(404, b"{}")
        return None

    def stream(self, scene: Scene) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            for event, data in scene.listen(self.admin.url + "/zipkin"):
                if self.admin.cut.is_set() or self.admin.stop.is_set():
                    return
                self.wfile.write(f"event: {event}\ndata: {json.dumps(data)}\n\n".encode())
                self.wfile.flush()
        except OSError:
            pass

    def do_POST(self) -> None:
        _, name, _, action = urlsplit(self.path).path.split("/")
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, answer = self.admin.scene(name).act(action, body)
        self.answer(status, json.dumps(answer).encode())


class FakeAdmin:
    """Serve the scenes at a port of 127.0.0.1, each with a program of its own."""

    def __init__(self, port: int = 0) -> None:
        self.scenes: dict[str, Scene] = {}
        self.stop = threading.Event()
        self.cut = threading.Event()  # set: streams end and are refused
        self.asked: dict[str, int] = {}  # trace -> times asked for
        self.server = ThreadingHTTPServer(("127.0.0.1", port), type("Bound", (Handler,), {"admin": self}))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.server.shutdown()
        self.server.server_close()

    def scene(self, name: str) -> Scene:
        if name not in self.scenes:
            self.scenes[name] = SCENES[name]()
            threading.Thread(target=self.scenes[name].run, args=(self.stop,), daemon=True).start()
        return self.scenes[name]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8099)
    with FakeAdmin(parser.parse_args().port) as fake:
        for scene_name in SCENES:
            print(f"{fake.url}/{scene_name}/")
        threading.Event().wait()
