"""Mutual TLS by one value: certificates, where they are mounted, and that the programs take them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import click
import pytest
from book_client.__main__ import command as client_command
from book_server.__main__ import command as server_command
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshkit import ClientTls, PemFiles, PemWatch, ServerTls
from tests.chart.conftest import Rendered, RenderError, render

ISSUER = {"name": "books", "kind": "ClusterIssuer"}


@pytest.fixture(scope="module")
def secured() -> Rendered:
    return render({"tls.enabled": True})


def files_of(rendered: Rendered, component: str, folder: Path) -> Path:
    """Write a Secret's files to a folder, as its volume would show them."""
    folder.mkdir()
    for name, content in rendered.one("Secret", component)["data"].items():
        (folder / name).write_bytes(base64.b64decode(content))
    return folder


def certificate(folder: Path, name: str = "tls.crt") -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / name).read_bytes())


def test_without_it_there_is_no_certificate_and_no_mount(default: Rendered) -> None:
    assert default.of_kind("Secret", "Certificate") == []
    assert "volumeMounts" not in default.container("server")
    assert not [name for name in default.environment("client") if "TLS" in name]


def test_one_authority_signs_the_certificates_of_both_sides_and_its_key_is_nowhere(
    secured: Rendered, tmp_path: Path
) -> None:
    server, client = (files_of(secured, name, tmp_path / name) for name in ("server", "client"))
    authority = certificate(server, "ca.crt")
    assert authority == certificate(client, "ca.crt")
    for folder, purpose in ((server, ExtendedKeyUsageOID.SERVER_AUTH), (client, ExtendedKeyUsageOID.CLIENT_AUTH)):
        certificate(folder).verify_directly_issued_by(authority)
        assert purpose in certificate(folder).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert sorted(path.name for path in folder.iterdir()) == ["ca.crt", "tls.crt", "tls.key"]


def test_clients_expect_the_name_that_is_in_the_servers_certificate(secured: Rendered, tmp_path: Path) -> None:
    names = certificate(files_of(secured, "server", tmp_path / "server")).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    expected = secured.environment("client")["BOOK_CLIENT_TLS_SERVER_NAME"]
    assert names.value.get_values_for_type(x509.DNSName) == [expected]


@pytest.mark.parametrize(("component", "mounted"), [("server", "server"), ("client", "client"), ("test", "client")])
def test_every_container_sees_its_sides_secret(secured: Rendered, component: str, mounted: str) -> None:
    spec = secured.pods()[component]["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert volumes["tls"]["secret"]["secretName"] == secured.one("Secret", mounted)["metadata"]["name"]
    # Owned by root, read by way of the pod's group.
    assert volumes["tls"]["secret"]["defaultMode"] == 0o440
    assert spec["securityContext"]["fsGroup"] == spec["securityContext"]["runAsGroup"]
    for container in (*spec.get("initContainers", []), *spec["containers"]):
        assert {"name": "tls", "mountPath": "/tls", "readOnly": True} in container["volumeMounts"], container["name"]


def parameters(command: click.Command, environment: dict[str, str | None], folder: Path) -> dict[str, Any]:
    """What a program makes of a container's environment, with the Secret's files in that folder."""
    arguments = [
        f"--{name.removeprefix('BOOK_SERVER_').removeprefix('BOOK_CLIENT_').lower().replace('_', '-')}="
        + (f"{folder}/{Path(value).name}" if value.startswith("/tls/") else value.replace("$(POD_IP)", "10.0.0.1"))
        for name, value in environment.items()
        if name.startswith("BOOK_") and value is not None
    ]
    return command.make_context("program", arguments).params


def test_the_server_takes_its_files(secured: Rendered, tmp_path: Path) -> None:
    folder = files_of(secured, "server", tmp_path / "server")
    flags = parameters(server_command, secured.environment("server"), folder)
    assert ServerTls(PemFiles(flags["tls_client_ca"], flags["tls_cert"], flags["tls_key"])).credentials()


def test_the_client_takes_its_files(secured: Rendered, tmp_path: Path) -> None:
    folder = files_of(secured, "client", tmp_path / "client")
    flags = parameters(client_command, secured.environment("client"), folder)
    watch = PemWatch(PemFiles(flags["tls_ca"], flags["tls_cert"], flags["tls_key"]))
    assert ClientTls(watch, flags["tls_server_name"]).credentials()


def test_probes_have_a_port_without_tls_of_their_own(secured: Rendered) -> None:
    assert secured.environment("server")["BOOK_SERVER_HEALTH_LISTEN"] == "0.0.0.0:50052"
    assert secured.container("server")["readinessProbe"]["grpc"] == {"port": 50052}


def test_cert_manager_makes_them_where_it_has_an_issuer() -> None:
    rendered = render({"tls.enabled": True, "tls.issuer": ISSUER})
    assert rendered.of_kind("Secret") == []
    for component, usage in (("server", "server auth"), ("client", "client auth")):
        made = rendered.one("Certificate", component)["spec"]
        assert made["issuerRef"] == ISSUER
        assert made["usages"] == [usage]
        (volume,) = rendered.pods()[component]["spec"]["volumes"]
        assert volume["secret"]["secretName"] == made["secretName"]
    assert rendered.one("Certificate", "server")["spec"]["dnsNames"] == [
        rendered.environment("client")["BOOK_CLIENT_TLS_SERVER_NAME"]
    ]


def test_secrets_of_ones_own_are_taken_as_they_are() -> None:
    values = {"tls.enabled": True, "tls.serverSecret": "theirs", "tls.clientSecret": "ours", "tls.serverName": "books"}
    rendered = render(values)
    assert rendered.of_kind("Secret", "Certificate") == []
    assert rendered.pods()["server"]["spec"]["volumes"][0]["secret"]["secretName"] == "theirs"
    assert rendered.pods()["client"]["spec"]["volumes"][0]["secret"]["secretName"] == "ours"
    assert rendered.environment("client")["BOOK_CLIENT_TLS_SERVER_NAME"] == "books"


def test_one_secret_of_ones_own_without_the_other_is_refused() -> None:
    with pytest.raises(RenderError, match="needed together"):
        render({"tls.enabled": True, "tls.serverSecret": "theirs"})
