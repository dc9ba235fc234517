import pytest
from opentelemetry.exporter.zipkin.proto.http import ZipkinExporter

from meshkit.tracing import zipkin_exporter


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
