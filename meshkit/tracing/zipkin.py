"""Zipkin: spans as its protobuf, written straight to the wire format, and sent to its collector.

Source: https://github.com/openzipkin/zipkin-api/blob/master/zipkin.proto. The package's own encoder marks every span
as debug, which switches the collector's sampling off; never names the remote endpoint, without which Zipkin draws no
service graph of its own; and goes through pure-Python message objects, which costs several times as much
(benchmarks/ compares them).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache

from opentelemetry.exporter.zipkin.node_endpoint import NodeEndpoint
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, StatusCode

from meshkit.address import parse_address
from meshkit.errors import CollectorUnavailableError, SpansRefusedError
from meshkit.tracing import attributes as names
from meshkit.tracing.b3 import is_debug
from meshkit.tracing.collector import Collector
from meshkit.tracing.processor import PreparingExporter

try:
    from opentelemetry.exporter.zipkin.proto.http import ZipkinExporter
except ImportError:
    # Beside a newer protobuf than that package takes: its twin, which has the parts that are used here.
    from opentelemetry.exporter.zipkin.json import ZipkinExporter  # type: ignore[assignment]

__all__ = ["SpanEncoder", "zipkin_exporter"]

TOO_MANY_REQUESTS = 429
MAX_PORT = 65535
MAX_TAG_BYTES = 256
# Java reads Zipkin's unsigned numbers as signed ones.
MAX_MICROSECONDS = 2**63 - 1

# A field's first byte: its number and its wire type (2: length-delimited, 0: varint, 1: eight bytes).
_TRACE_ID, _PARENT_ID, _ID = b"\x0a\x10", b"\x12\x08", b"\x1a\x08"
_SHORT_TRACE_ID = b"\x0a\x08"
_NAME = b"\x2a"
_TIMESTAMP = b"\x31"
_DURATION = b"\x38"
_LOCAL, _REMOTE = b"\x42", b"\x4a"
_ANNOTATION, _TAG = b"\x52", b"\x5a"
_DEBUG = b"\x60\x01"
_KINDS = {
    SpanKind.INTERNAL: b"",
    SpanKind.CLIENT: b"\x20\x01",
    SpanKind.SERVER: b"\x20\x02",
    SpanKind.PRODUCER: b"\x20\x03",
    SpanKind.CONSUMER: b"\x20\x04",
}


class SpanEncoder:
    """What `ZipkinExporter.encoder` may be set to: proto3, with the remote endpoint, and debug only where asked for.

    A CLIENT span's remote endpoint is taken from its server.address and server.port. Failed spans get an `error` tag
    with the status description. Tag values longer than 256 bytes are cut.
    """

    @staticmethod
    def content_type() -> str:
        """The media type of what `serialize` returns."""
        return "application/x-protobuf"

    def serialize(self, spans: Sequence[ReadableSpan], local_endpoint: NodeEndpoint) -> bytes:
        """A `ListOfSpans`."""
        encode = self.for_endpoint(local_endpoint)
        return b"".join(map(encode, spans))

    @staticmethod
    def for_endpoint(
        local_endpoint: NodeEndpoint, root_tags: Mapping[str, object] | None = None
    ) -> Callable[[ReadableSpan], bytes]:
        """What encodes a span of that endpoint as one element of a `ListOfSpans`: joined, elements are a list.

        Args:
            local_endpoint: the program's own.
            root_tags: of spans without a parent: what there is to tell of the program, once a trace.
        """
        address = local_endpoint.ipv4 or local_endpoint.ipv6
        local = _LOCAL + _sized(
            _endpoint(local_endpoint.service_name, str(address) if address else "", local_endpoint.port or 0)
        )
        of_root = b"".join(_tag(name, str(value)) for name, value in (root_tags or {}).items())
        return lambda span: b"\x0a" + _sized(_span(span, local, of_root))


class _ZipkinExporter(ZipkinExporter, PreparingExporter):
    """Tells a collector that is away or overloaded from one that refuses for good (raises SpansRefusedError)."""

    def __init__(self, url: str, service: str, timeout: float, root_tags: Mapping[str, object]) -> None:
        # Its session and its timeout are not used; without one it would read a variable, and fail on what is no number.
        super().__init__(endpoint=url, timeout=1)
        self.encoder = SpanEncoder()  # type: ignore[assignment]
        self.local_node.service_name = service
        self._root_tags = root_tags
        self._collector = Collector(url, SpanEncoder.content_type(), timeout=timeout)

    @cached_property
    def _encode(self) -> Callable[[ReadableSpan], bytes]:
        return SpanEncoder.for_endpoint(self.local_node, self._root_tags)

    def prepare(self, span: ReadableSpan) -> bytes:
        return self._encode(span)

    def send(self, prepared: Sequence[bytes]) -> SpanExportResult:
        status, said, _ = self._collector.post(b"".join(prepared))
        # A redirect is no success: from its root, Zipkin leads to its web page, where spans end nowhere.
        if status < 300:
            return SpanExportResult.SUCCESS
        reason = f"{self._collector.shown} answered {status} {said}".rstrip()
        if status >= 500 or status == TOO_MANY_REQUESTS:
            raise CollectorUnavailableError(reason)
        raise SpansRefusedError(reason)

    def shutdown(self) -> None:
        super().shutdown()
        self._collector.close()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # type: ignore[override]
        return self.send([self.prepare(span) for span in spans])


def zipkin_exporter(
    service: str,
    url: str,
    *,
    address: str | None = None,
    timeout: float = 8.0,
    root_tags: Mapping[str, object] | None = None,
) -> SpanExporter:
    """The package's exporter with the encoder of meshkit; see `tracer_provider` for the parameters.

    Args:
        service: the local endpoint's name.
        url: the collector's.
        address: the local endpoint's, `host:port` or an IP address alone.
        timeout: seconds that a post may take. Default 8.
        root_tags: of spans without a parent. Default: none.
    """
    exporter = _ZipkinExporter(url, service, timeout, root_tags or {})
    node = exporter.local_node
    if address is not None:
        host, port = parse_address(address) if _has_port(address) else (address, None)
        with suppress(ValueError):  # a host name: Zipkin's endpoints have no place for one
            if ipaddress.ip_address(host).version == 4:
                node.ipv4 = host
            else:
                node.ipv6 = host
        node.port = port
    return exporter


def _has_port(address: str) -> bool:
    return address.startswith("[") or address.count(":") == 1


def _span(span: ReadableSpan, local: bytes, of_root: bytes) -> bytes:
    context = span.context
    # Zipkin refuses all spans of a request for one that it cannot store.
    if context is None or not context.is_valid:
        raise ValueError("expected a span with ids, got none")
    start, end = span.start_time or 0, span.end_time or 0
    tags: Mapping[str, object] = span.attributes or {}
    parts = [
        _TRACE_ID + context.trace_id.to_bytes(16, "big")
        if context.trace_id >> 64
        else _SHORT_TRACE_ID + context.trace_id.to_bytes(8, "big"),
        _ID + context.span_id.to_bytes(8, "big"),
        _KINDS[span.kind],
        _NAME + _text(span.name),
        _TIMESTAMP + _microseconds(start),
        # Zipkin takes 0 for unknown.
        _DURATION + _varint(min(max(1, (end - start + 500) // 1000), MAX_MICROSECONDS)),
        local,
    ]
    if span.parent is None:
        parts.append(of_root)
    else:
        parts.append(_PARENT_ID + span.parent.span_id.to_bytes(8, "big"))
    if span.kind is SpanKind.CLIENT and names.SERVER_ADDRESS in tags:
        port = tags.get(names.SERVER_PORT)
        parts.append(_remote(str(tags[names.SERVER_ADDRESS])[:MAX_TAG_BYTES], port if isinstance(port, int) else 0))
    parts += [_annotation(event) for event in span.events]
    parts += [_tag(name, str(value)) for name, value in tags.items()]
    if span.status.status_code is StatusCode.ERROR and names.ERROR not in tags:
        parts.append(_tag(names.ERROR, span.status.description or "true"))
    if is_debug(context):
        parts.append(_DEBUG)
    return b"".join(parts)


@lru_cache(maxsize=1024)
def _remote(address: str, port: int) -> bytes:
    return _REMOTE + _sized(_endpoint("", address, port))


def _endpoint(service: str, address: str, port: int) -> bytes:
    parts = [b"\x0a" + _text(service)] if service else []
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        pass  # A host name: it stands in the tags.
    else:
        parts.append((b"\x12\x04" if ip.version == 4 else b"\x1a\x10") + ip.packed)
    if 0 < port <= MAX_PORT:
        parts.append(b"\x20" + _varint(port))
    return b"".join(parts)


def _annotation(event: Event) -> bytes:
    return _ANNOTATION + _sized(b"\x09" + _microseconds(event.timestamp) + b"\x12" + _text(event.name))


def _microseconds(nanoseconds: int) -> bytes:
    """As eight bytes; a time before 1970 or after Zipkin's last one is the first or the last that there is."""
    return min(max(0, (nanoseconds + 500) // 1000), MAX_MICROSECONDS).to_bytes(8, "little")


def _tag(name: str, value: str) -> bytes:
    # Cut before it is a key of the cache, which would hold long texts else.
    return _cut_tag(name[:MAX_TAG_BYTES], value[:MAX_TAG_BYTES])


@lru_cache(maxsize=4096)
def _cut_tag(name: str, value: str) -> bytes:
    return _TAG + _sized(b"\x0a" + _text(name) + b"\x12" + _text(value))


def _text(text: str) -> bytes:
    raw = text.encode(errors="replace")
    if len(raw) > MAX_TAG_BYTES:
        raw = raw[:MAX_TAG_BYTES].decode(errors="ignore").encode()
    return _sized(raw)


def _sized(raw: bytes) -> bytes:
    return _varint(len(raw)) + raw


def _varint(number: int) -> bytes:
    if number < 0x80:
        return number.to_bytes(1, "little")
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
