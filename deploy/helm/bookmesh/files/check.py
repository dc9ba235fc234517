"""`helm test`: makes real calls, then checks every one's trace in Zipkin. Runs in the client's image."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

Span = dict[str, Any]

# Seconds for the servers to come up, and for a trace to be stored.
PATIENCE = 60
METHODS = ["bookservice/getbookinfo", "bookservice/getbooklist"]


class Zipkin(NamedTuple):
    """Where traces are asked for: `scheme://host:port`, and the headers that the collector's URL makes necessary."""

    url: str
    headers: dict[str, str]


def zipkin_of(collector: str) -> Zipkin:
    """The Zipkin that a collector's URL belongs to; a login in it becomes a header, and is never shown."""
    parts = urlsplit(collector)
    login, _, host = parts.netloc.rpartition("@")
    headers = {"Authorization": f"Basic {base64.b64encode(unquote(login).encode()).decode()}"} if login else {}
    return Zipkin(f"{parts.scheme}://{host}{parts.path.partition('/api/')[0]}", headers)


def stored(zipkin: Zipkin, trace_id: str) -> list[Span]:
    """A call's spans as Zipkin's API gives them; [] while it has none.

    Raises:
        OSError: Zipkin does not answer, perhaps not yet.
    """
    try:
        request = urllib.request.Request(f"{zipkin.url}/api/v2/trace/{trace_id}", headers=zipkin.headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            spans: list[Span] = json.load(answer)
            return spans
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return []
        raise


def flaws(spans: list[Span], instance: str, attempts: int) -> Iterator[str]:
    """What keeps a successful call's spans from being one whole trace.

    Whole: one root; no span below one that is not there; below each CLIENT span that did not fail its SERVER span, at
    the instance that was called; both methods called at the instance that the client logged; a CLIENT span of each
    attempt that failed.
    """
    roots = [span["name"] for span in spans if "parentId" not in span]
    if len(roots) != 1:
        yield f"expected one root, got {roots}"
    by_id = {span["id"]: span for span in spans}
    orphans = [span["name"] for span in spans if span.get("parentId", span["id"]) not in by_id]
    if orphans:
        yield f"spans whose parent is not there: {orphans}"
    clients = [span for span in spans if span.get("kind") == "CLIENT"]
    good = [span for span in clients if "error" not in span.get("tags", {})]
    if len(clients) - len(good) < attempts - 1:
        yield f"expected a CLIENT span of each of {attempts - 1} failed attempts, got {len(clients) - len(good)}"
    for client in good:
        below = [
            (span["name"], address(span.get("localEndpoint")))
            for span in spans
            if span.get("kind") == "SERVER" and span.get("parentId") == client["id"]
        ]
        called = (client["name"], address(client.get("remoteEndpoint")))
        if below != [called]:
            yield f"expected one SERVER span {called} below its CLIENT span, got {below}"
    names = sorted({span["name"] for span in good if address(span.get("remoteEndpoint")) == instance})
    if names != METHODS:
        yield f"expected {METHODS} to be called at {instance}, as the client logged; got {names}"


def address(endpoint: dict[str, Any] | None) -> str:
    """`host:port` of an endpoint in Zipkin's JSON."""
    endpoint = endpoint or {}
    host = endpoint.get("ipv4") or f"[{endpoint.get('ipv6')}]"
    return f"{host}:{endpoint.get('port')}"


def make_calls(number: int) -> list[dict[str, Any]]:
    """Run book-client; its log lines of the calls.

    Raises:
        SystemExit: a call failed.
    """
    flags = [f"--calls={number}", "--interval=0s", f"--timeout={PATIENCE}s", "--log-format=json"]
    command = ["/venv/bin/book-client", *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, flush=True)
    entries = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    calls = [entry for entry in entries if entry["event"] == "call"]
    if done.returncode != 0 or len(calls) != number:
        sys.exit(f"book-client ended with status {done.returncode} after {len(calls)} of {number} calls")
    return calls


def see_trace(zipkin: Zipkin, call: dict[str, Any], give_up: float) -> None:
    """Wait until a call's trace is whole.

    Raises:
        SystemExit: it is not when `time.monotonic()` is `give_up`.
    """
    spans: list[Span] = []
    while True:
        try:
            spans = stored(zipkin, call["trace_id"])
            wrong = list(flaws(spans, call["instance"], call["attempts"]))
        except OSError as error:
            wrong = [f"{zipkin.url}: {error}"]
        if not wrong:
            return
        if time.monotonic() > give_up:
            print(*wrong, json.dumps(spans, indent=1), sep="\n")
            sys.exit(f"trace {call['trace_id']} is not whole after {PATIENCE} s: {wrong[0]}")
        time.sleep(0.5)


def main() -> None:
    """Exit with a line that says what is wrong, or print what was seen."""
    calls = make_calls(int(os.environ["CALLS"]))
    instances = sorted({call["instance"] for call in calls})
    collector = os.environ["BOOK_CLIENT_ZIPKIN"]
    if collector == "off":
        print(f"{len(calls)} calls succeeded, by {instances}; there is no Zipkin to ask for their traces")
        return
    zipkin = zipkin_of(collector)
    give_up = time.monotonic() + PATIENCE
    for call in calls:
        see_trace(zipkin, call, give_up)
    print(f"{len(calls)} calls succeeded, by {instances}, and each has a whole trace")


if __name__ == "__main__":
    main()
