"""OTLP: spans as its JSON, written straight to text, and posted to a collector.

Source: https://github.com/open-telemetry/opentelemetry-proto, `docs/specification.md`, "OTLP/HTTP": ids are
hexadecimal, enums numbers, 64-bit numbers strings. Why not the package's exporter: that of OTLP's protobuf wants
protobuf 5, which etcd3's and Zipkin's packages exclude; that of its JSON builds an object for each part of a span.
"""

from __future__ import annotations

import gzip
import json
import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode

from meshkit.errors import CollectorUnavailableError, SpansRefusedError
from meshkit.tracing.collector import Answer, Collector, TlsFiles
from meshkit.tracing.processor import PreparingExporter

__all__ = ["OtlpExporter", "encoded_span"]

# The specification's: others are not to be tried again.
RETRYABLE = frozenset({429, 502, 503, 504})
# Of a text: a status's or an exception's may be of any length.
MAX_TEXT = 4096
# Bodies below are not worth the time.
MIN_COMPRESSED = 1024

_KINDS = {
    SpanKind.INTERNAL: 1,
    SpanKind.SERVER: 2,
    SpanKind.CLIENT: 3,
    SpanKind.PRODUCER: 4,
    SpanKind.CONSUMER: 5,
}
_STATUSES = {StatusCode.UNSET: "", StatusCode.OK: '"code":1', StatusCode.ERROR: '"code":2'}
# SpanFlags: whether a parent is remote is known, and that it is.
_KNOWN, _REMOTE = 0x100, 0x200
_INT64 = range(-(2**63), 2**63)


class OtlpExporter(PreparingExporter):
    """Posts spans as OTLP's JSON, for a ResendingSpanProcessor.

    Args:
        url: of the traces, e.g. `http://127.0.0.1:4318/v1/traces`.
        resource: what the spans tell of the program.
        headers: sent with each post, e.g. an API key.
        timeout: seconds that a post may take. Default 10.
        compress: with gzip. Default: not.
        tls: for `https`: authorities, and a certificate of one's own. Default: the system's authorities.

    Raises:
        ValueError: no such URL, or a header that cannot be sent.
        OSError: the files of TLS cannot be used.
    """

    def __init__(
        self,
        url: str,
        resource: Resource,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        compress: bool = False,
        tls: TlsFiles | None = None,
    ) -> None:
        self._compress = compress
        self._plain = Collector(url, "application/json", timeout=timeout, headers=headers, tls=tls)
        self._gzipped = Collector(
            url, "application/json", timeout=timeout, headers={**(headers or {}), "Content-Encoding": "gzip"}, tls=tls
        )
        self._before = (
            f'{{"resourceSpans":[{{"resource":{{"attributes":{_attributes(resource.attributes)}}},"scopeSpans":['
        ).encode()
        self._after = f'],"schemaUrl":{quoted(resource.schema_url)}}}]}}'.encode()

    def prepare(self, span: ReadableSpan) -> bytes:
        """The span's scope and the span, a line each."""
        return f"{_scope(span.instrumentation_scope)}\n{encoded_span(span)}".encode("ascii")

    def send(self, prepared: Sequence[bytes]) -> SpanExportResult:
        """See `PreparingExporter`.

        Raises:
            CollectorUnavailableError: not now; to be tried again.
            SpansRefusedError: some or all of them are refused for good.
        """
        spans: dict[bytes, list[bytes]] = {}
        for each in prepared:
            scope, _, span = each.partition(b"\n")
            spans.setdefault(scope, []).append(span)
        scopes = [b'{"scope":%b,"spans":[%b]}' % (scope, b",".join(some)) for scope, some in spans.items()]
        answer = self._post(self._before + b",".join(scopes) + self._after)
        said = f"{self._plain.shown} answered {answer.status} {answer.reason}".rstrip()
        if answer.status in RETRYABLE:
            raise CollectorUnavailableError(said)
        if answer.status >= 300:
            raise SpansRefusedError(said)
        if rejected := _rejected(answer.body):
            raise SpansRefusedError(f"{self._plain.shown} rejected {rejected} of {len(prepared)} spans")
        return SpanExportResult.SUCCESS

    def _post(self, body: bytes) -> Answer:
        if self._compress and len(body) >= MIN_COMPRESSED:
            # In the sending thread, without the interpreter's lock.
            return self._gzipped.post(gzip.compress(body, compresslevel=1))
        return self._plain.post(body)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See `SpanExporter`."""
        return self.send([self.prepare(span) for span in spans])

    def shutdown(self) -> None:
        """Close the connections."""
        self._plain.close()
        self._gzipped.close()


def encoded_span(span: ReadableSpan) -> str:
    """A span as OTLP's JSON, in ASCII and on one line; texts longer than 4,096 characters are cut."""
    context = span.context
    if context is None or not context.is_valid:
        raise ValueError("expected a span with ids, got none")
    parts = [
        f'{{"traceId":"{context.trace_id:032x}","spanId":"{context.span_id:016x}"',
        f',"name":{_text(span.name)},"kind":{_KINDS[span.kind]}',
        f',"startTimeUnixNano":"{span.start_time or 0}","endTimeUnixNano":"{span.end_time or 0}"',
        f',"flags":{_flags(span.parent)}',
    ]
    if span.parent is not None:
        parts.append(f',"parentSpanId":"{span.parent.span_id:016x}"')
    if context.trace_state:
        parts.append(f',"traceState":{quoted(context.trace_state.to_header())}')
    if span.attributes:
        parts.append(f',"attributes":{_attributes(span.attributes)}')
    if span.events:
        parts.append(f',"events":[{",".join(map(_event, span.events))}]')
    if span.links:
        parts.append(f',"links":[{",".join(map(_link, span.links))}]')
    if status := _STATUSES[span.status.status_code]:
        message = f',"message":{_text(span.status.description)}' if span.status.description else ""
        parts.append(f',"status":{{{status}{message}}}')
    parts.append("}")
    return "".join(parts)


@lru_cache(maxsize=64)
def _scope(scope: InstrumentationScope | None) -> str:
    if scope is None:
        return "{}"
    version = f',"version":{quoted(scope.version)}' if scope.version else ""
    return f'{{"name":{quoted(scope.name)}{version}}}'


def _flags(parent: SpanContext | None) -> int:
    return _KNOWN | _REMOTE if parent is not None and parent.is_remote else _KNOWN


def _event(event: Event) -> str:
    attributes = f',"attributes":{_attributes(event.attributes)}' if event.attributes else ""
    return f'{{"timeUnixNano":"{event.timestamp}","name":{_text(event.name)}{attributes}}}'


def _link(link: Link) -> str:
    attributes = f',"attributes":{_attributes(link.attributes)}' if link.attributes else ""
    ids = f'"traceId":"{link.context.trace_id:032x}","spanId":"{link.context.span_id:016x}"'
    return f'{{{ids},"flags":{_flags(link.context)}{attributes}}}'


def _attributes(attributes: Mapping[str, Any]) -> str:
    return f"[{','.join([_attribute(key, value) for key, value in attributes.items()])}]"


def _attribute(key: str, value: Any) -> str:
    # The same few come again and again; long texts are not to fill the cache.
    if isinstance(value, int) or (isinstance(value, str) and len(value) <= 64):
        return _known_attribute(key, value)
    return f'{{"key":{quoted(key)},"value":{_value(value)}}}'


# Typed, as 1 is equal to True.
@lru_cache(maxsize=4096, typed=True)
def _known_attribute(key: str, value: str | int) -> str:
    return f'{{"key":{quoted(key)},"value":{_value(value)}}}'


def _value(value: Any) -> str:  # noqa: PLR0911 - a return for each type of the protocol
    if value is None:
        return "{}"
    if isinstance(value, bool):
        return f'{{"boolValue":{"true" if value else "false"}}}'
    if isinstance(value, int) and value in _INT64:
        return f'{{"intValue":"{value}"}}'
    if isinstance(value, float):
        return f'{{"doubleValue":{_number(value)}}}'
    if isinstance(value, bytes):
        return f'{{"bytesValue":"{b64encode(value[:MAX_TEXT]).decode()}"}}'
    if isinstance(value, Mapping):
        return f'{{"kvlistValue":{{"values":{_attributes({str(key): each for key, each in value.items()})}}}}}'
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f'{{"arrayValue":{{"values":[{",".join(map(_value, value))}]}}}}'
    return f'{{"stringValue":{_text(str(value))}}}'


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return '"NaN"' if math.isnan(value) else '"Infinity"' if value > 0 else '"-Infinity"'


def _text(text: str) -> str:
    return quoted(text[:MAX_TEXT])


def _rejected(body: bytes) -> int:
    """How many spans an answer of success says were not taken."""
    try:
        return int(json.loads(body)["partialSuccess"]["rejectedSpans"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0
