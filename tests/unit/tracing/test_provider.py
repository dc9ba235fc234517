import os
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.exporter.zipkin.proto.http import ZipkinExporter

from meshkit.tracing import TraceSettings, tracer_provider, zipkin_exporter
from meshkit.tracing.tracer import LightTracerProvider


@pytest.mark.parametrize(
    ("address", "endpoint"),
    [
        ("10.0.0.7:50051", ("10.0.0.7", None, 50051)),
        ("[::1]:50051", (None, "::1", 50051)),
        ("10.0.0.7", ("10.0.0.7", None, None)),
        ("::1", (None, "::1", None)),
        ("book-server-0.books:50051", (None, None, 50051)),
        ("12345", (None, None, None)),
    ],
)
def test_the_local_endpoint_has_the_ip_address_if_there_is_one(
    address: str, endpoint: tuple[str | None, str | None, int | None]
) -> None:
    exporter = zipkin_exporter("test", "http://127.0.0.1:9411/api/v2/spans", address=address)
    assert isinstance(exporter, ZipkinExporter)
    node = exporter.local_node
    assert (node.ipv4 and str(node.ipv4), node.ipv6 and str(node.ipv6), node.port) == endpoint


WITHOUT_ZIPKIN = """
import sys
sys.modules["opentelemetry.exporter.zipkin"] = None  # as where the package is not installed
from book_client.__main__ import command
from book_server.__main__ import command
from meshkit.tracing import TraceSettings, tracer_provider
settings = TraceSettings(exporters=("zipkin", "otlp"), zipkin="http://127.0.0.1:1/", otlp="http://127.0.0.1:1/")
print(len(tracer_provider("test", settings=settings).processors))
"""


def test_the_programs_run_without_the_zipkin_exporters_package() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_ZIPKIN], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert "spans are not sent to Zipkin" in done.stdout
    assert done.stdout.splitlines()[-1] == "1"


def test_spans_can_go_both_ways_at_once() -> None:
    settings = TraceSettings(exporters=("zipkin", "otlp"), zipkin="http://127.0.0.1:1/", otlp="http://127.0.0.1:1/")
    provider = tracer_provider("test", settings=settings)
    assert isinstance(provider, LightTracerProvider)
    assert len(provider.processors) == 2
    provider.shutdown()


def test_certificates_that_are_not_there_are_named() -> None:
    settings = TraceSettings(exporters=("otlp",), otlp="https://127.0.0.1:1/", otlp_ca=Path("/nowhere/ca.crt"))
    with pytest.raises(OSError, match=r"expected certificates of a collector in /nowhere/ca\.crt"):
        tracer_provider("test", settings=settings)


def test_a_fifo_for_certificates_is_refused_and_holds_up_nobody(tmp_path: Path) -> None:
    fifo = tmp_path / "ca.crt"
    os.mkfifo(fifo)
    settings = TraceSettings(exporters=("otlp",), otlp="https://127.0.0.1:1/", otlp_ca=fifo)
    with pytest.raises(OSError, match="expected a regular file"):
        tracer_provider("test", settings=settings)
