"""The trace oracle: holds every call that a client has logged against its trace in Zipkin.

A whole trace is one tree that tells what the log tells, and nothing less:

    bookCaller                              root, by book-client
     ├─ CLIENT  BookService/GetBookInfo     remote endpoint: the instance that the client has logged
     │   └─ SERVER  …                       local endpoint: that same instance
     └─ CLIENT  BookService/GetBookList
         └─ SERVER  …

A retried call has more: each failed attempt's CLIENT spans, the last of them with `error`, each with its SERVER span
where it got that far.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from localmesh.calls import Call

__all__ = ["Broken", "Excuse", "FailedAttempt", "Span", "Verdict", "judge", "problems"]

Span = Mapping[str, Any]

ROOT = "bookcaller"
METHODS = ("bookservice/getbookinfo", "bookservice/getbooklist")
CLIENT_SERVICE, SERVER_SERVICE = "book-client", "book-server"
ID_LENGTHS = (16, 32)


@dataclass(frozen=True, slots=True)
class Excuse:
    """SERVER spans that are lost: an instance still held them when its process was killed.

    `since` and `until` (seconds since 1970) bound the moments at which the CLIENT span ended.
    """

    instance: str
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Broken:
    """A call whose trace is not whole, and why."""

    call: Call
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.call}, trace {self.call.trace_id}: " + "; ".join(self.reasons)


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt that its CLIENT span tells to have failed, and why."""

    call: Call
    instance: str
    error: str

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.call}, trace {self.call.trace_id}: attempt at {self.instance}: {self.error}"


@dataclass(slots=True)
class Verdict:
    """What the oracle found; `calls` is the sum of `whole`, `excused` and the broken ones."""

    calls: int = 0
    whole: int = 0
    excused: int = 0
    spans: int = 0
    broken: list[Broken] = field(default_factory=list)
    # SERVER spans by the instance that made them.
    served: Counter[str] = field(default_factory=Counter)
    failed_attempts: list[FailedAttempt] = field(default_factory=list)

    def __str__(self) -> str:
        """Say it in a line, with the first broken traces."""
        text = f"{self.whole} of {self.calls} calls have a whole trace, {self.spans} spans"
        if self.excused:
            text += f", {self.excused} lack what a killed process had not sent"
        if self.broken:
            text += f", {len(self.broken)} are broken:\n  " + "\n  ".join(map(str, self.broken[:10]))
        return text


def judge(calls: Iterable[Call], traces: Mapping[str, Sequence[Span]], excuses: Sequence[Excuse] = ()) -> Verdict:
    """Hold every call against its trace.

    Args:
        calls: All that were logged.
        traces: Spans by trace id, as Zipkin's API gives them; a missing one counts as empty.
        excuses: Which SERVER spans may be missing.
    """
    verdict = Verdict()
    for call in calls:
        spans = traces.get(call.trace_id, ())
        verdict.calls += 1
        verdict.spans += len(spans)
        for span in spans:
            if span.get("kind") == "SERVER":
                verdict.served[_address(span.get("localEndpoint"))] += 1
            elif span.get("kind") == "CLIENT" and "error" in _tags(span):
                where = _address(span.get("remoteEndpoint"))
                verdict.failed_attempts.append(FailedAttempt(call, where, _tags(span)["error"]))
        if not (reasons := problems(call, spans)):
            verdict.whole += 1
        elif not problems(call, spans, excuses):
            verdict.excused += 1
        else:
            verdict.broken.append(Broken(call, tuple(reasons)))
    return verdict


def problems(call: Call, spans: Sequence[Span], excuses: Sequence[Excuse] = ()) -> list[str]:
    """What is wrong with a call's trace; empty: it is whole."""
    if not spans:
        return ["no span in Zipkin"]
    found = _identity(call, spans)
    roots = [span for span in spans if "parentId" not in span]
    if len(roots) != 1:
        return [*found, f"{len(roots)} roots instead of one among {len(spans)} spans: {_names(roots)}"]
    root = roots[0]
    found += _root(call, root)
    clients = [span for span in spans if span.get("kind") == "CLIENT"]
    servers = [span for span in spans if span.get("kind") == "SERVER"]
    strangers = [span for span in spans if span is not root and span not in clients and span not in servers]
    if strangers:
        found.append(f"spans that belong to nothing: {_names(strangers)}")
    found += [f"{_name(span)} CLIENT is not a child of the root" for span in clients if span["parentId"] != root["id"]]
    found += _places(call, [root, *clients])
    found += _attempts(call, clients)
    found += _pairs(clients, servers, excuses)
    return found


def _identity(call: Call, spans: Sequence[Span]) -> list[str]:
    found = []
    if len(call.trace_id) not in ID_LENGTHS or not _is_hex(call.trace_id):
        found.append(f"trace id {call.trace_id!r} is not 16 or 32 hex digits")
    if others := {span["traceId"] for span in spans} - {call.trace_id}:
        found.append(f"spans of other traces: {sorted(others)}")
    ids = Counter(span["id"] for span in spans)
    if bad := [i for i, count in ids.items() if count > 1 or len(i) != 16 or not _is_hex(i)]:
        found.append(f"span ids that are not unique or not 16 hex digits: {bad}")
    if orphans := [span for span in spans if "parentId" in span and span["parentId"] not in ids]:
        found.append(f"orphans: {_names(orphans)}")
    if debug := [span for span in spans if span.get("debug") or span.get("shared")]:
        found.append(f"marked debug or shared: {_names(debug)}")
    return found


def _root(call: Call, root: Span) -> list[str]:
    found = []
    if _name(root) != ROOT or "kind" in root:
        found.append(f"the root is {_name(root)} {root.get('kind', '')} instead of {ROOT}")
    if call.ok and "error" in _tags(root):
        found.append(f"the call succeeded, its root says {_tags(root)['error']!r}")
    if not call.ok and "error" not in _tags(root):
        found.append("the call failed, its root does not say so")
    return found


def _places(call: Call, spans: Sequence[Span]) -> list[str]:
    """The spans that the client has made say that it has."""
    places = {f"{_service(span)} at {_host(span.get('localEndpoint'))}" for span in spans}
    expected = f"{CLIENT_SERVICE} at {call.host}"
    return [f"the client's spans come from {_listed(places)} instead of {expected}"] if places != {expected} else []


def _attempts(call: Call, clients: Sequence[Span]) -> list[str]:
    """Each attempt that the client has made left the CLIENT spans that it must, and there are no others."""
    found = []
    by_attempt: dict[str, list[Span]] = {}
    for span in sorted(clients, key=lambda span: int(span["timestamp"])):
        by_attempt.setdefault(_tags(span).get("attempt", "?"), []).append(span)
    expected = [str(number) for number in range(1, call.attempts + 1)]
    if sorted(by_attempt) != sorted(expected):
        found.append(f"{call.attempts} attempts in the log, CLIENT spans of attempts {sorted(by_attempt)}")
    for number in expected:
        spans = by_attempt.get(number, [])
        found += _success(call, spans) if call.ok and number == expected[-1] else _failure(number, spans)
    if not call.ok and call.attempts:
        last = by_attempt.get(expected[-1], [])
        if remotes := _remotes(last) - {call.instance}:
            found.append(f"the client logged {call.instance}, its last attempt went to {_listed(remotes)}")
    return found


def _success(call: Call, spans: Sequence[Span]) -> list[str]:
    found = []
    if (names := [_name(span) for span in spans]) != [*METHODS]:
        found.append(f"CLIENT spans of the attempt that succeeded: {names}")
    if (remotes := _remotes(spans)) != {call.instance}:
        found.append(f"the client logged {call.instance}, its spans' remote endpoint is {_listed(remotes)}")
    if errors := [span for span in spans if "error" in _tags(span)]:
        found.append(f"error on {_names(errors)} although the call succeeded")
    return found


def _failure(number: str, spans: Sequence[Span]) -> list[str]:
    found = []
    names = [_name(span) for span in spans]
    errors = [span for span in spans if "error" in _tags(span)]
    if names != [*METHODS[: len(names)]] or errors != [*spans[-1:]]:
        found.append(f"attempt {number} failed, its spans are {names} with {len(errors)} errors")
    if len(remotes := _remotes(spans)) > 1:
        found.append(f"attempt {number} went to {_listed(remotes)}")
    return found


def _remotes(spans: Sequence[Span]) -> set[str]:
    return {_address(span.get("remoteEndpoint")) for span in spans}


def _pairs(clients: Sequence[Span], servers: Sequence[Span], excuses: Sequence[Excuse]) -> list[str]:
    """Each CLIENT span has its SERVER span (may have, where it failed), by the instance that it called."""
    found = []
    by_parent: dict[str, list[Span]] = {}
    for span in servers:
        by_parent.setdefault(span["parentId"], []).append(span)
    for client in clients:
        children = by_parent.pop(client["id"], [])
        failed = "error" in _tags(client)
        if len(children) > 1 or (not children and not failed and not _excused(client, excuses)):
            found.append(f"{_name(client)} CLIENT has {len(children)} SERVER spans")
        for server in children:
            if _name(server) != _name(client) or _service(server) != SERVER_SERVICE:
                found.append(f"{_name(client)} CLIENT is paired with {_service(server)} {_name(server)}")
            if _address(server.get("localEndpoint")) != _address(client.get("remoteEndpoint")):
                found.append(
                    f"{_name(client)} CLIENT called {_address(client.get('remoteEndpoint'))}, "
                    f"{_address(server.get('localEndpoint'))} served it"
                )
            if "error" in _tags(server) and not failed:
                found.append(f"{_name(server)} SERVER failed, its CLIENT did not")
    found += [f"{_names(spans)} SERVER without its CLIENT" for spans in by_parent.values()]
    return found


def _excused(client: Span, excuses: Sequence[Excuse]) -> bool:
    instance = _address(client.get("remoteEndpoint"))
    ended = (client["timestamp"] + client.get("duration", 0)) / 1e6
    return any(excuse.instance == instance and excuse.since <= ended <= excuse.until for excuse in excuses)


def _address(endpoint: Mapping[str, Any] | None) -> str:
    if not endpoint:
        return "nowhere"
    return f"{_host(endpoint)}:{endpoint.get('port', '?')}"


def _host(endpoint: Mapping[str, Any] | None) -> str:
    endpoint = endpoint or {}
    return str(endpoint.get("ipv4") or (f"[{endpoint['ipv6']}]" if "ipv6" in endpoint else "?"))


def _service(span: Span) -> str:
    return str(span.get("localEndpoint", {}).get("serviceName", "nobody"))


def _name(span: Span) -> str:
    return str(span.get("name", "?")).lower()


def _names(spans: Iterable[Span]) -> str:
    return ", ".join(f"{_name(span)} {span.get('kind', '')}".strip() for span in spans) or "none"


def _listed(addresses: Iterable[str]) -> str:
    return ", ".join(sorted(addresses)) or "none"


def _tags(span: Span) -> Mapping[str, str]:
    tags: Mapping[str, str] = span.get("tags", {})
    return tags


def _is_hex(text: str) -> bool:
    return all(char in "0123456789abcdef" for char in text)
