"""Mutual TLS by one value: certificates, where they are mounted, and that programs and etcd take them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import pytest
from book_client.__main__ import command as client_command
from book_server.__main__ import command as server_command
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshkit import ClientTls, PemFiles, ServerTls
from meshkit.tls import PemWatch
from tests.support.chart import EXTERNAL_ETCD, Rendered, RenderError, render

ISSUER = {"name": "books", "kind": "ClusterIssuer"}
OWN_SECRETS = {"tls.enabled": True, "tls.serverSecret": "theirs", "tls.clientSecret": "ours"}
SECRETS = {**OWN_SECRETS, "tls.etcdSecret": "etcds"}


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


def dns_names(folder: Path) -> list[str]:
    names = certificate(folder).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return names.value.get_values_for_type(x509.DNSName)


def test_one_authority_signs_the_certificates_of_all_sides_and_its_key_is_nowhere(
    secured: Rendered, tmp_path: Path
) -> None:
    as_server, as_client = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
    authorities = set()
    # Servers are clients of etcd, and its members are each other's.
    for component, purposes in (
        ("server", {as_server, as_client}),
        ("client", {as_client}),
        ("etcd", {as_server, as_client}),
    ):
        folder = files_of(secured, component, tmp_path / component)
        authority = certificate(folder, "ca.crt")
        authorities.add(authority)
        certificate(folder).verify_directly_issued_by(authority)
        assert purposes <= {*certificate(folder).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value}
        assert sorted(path.name for path in folder.iterdir()) == ["ca.crt", "tls.crt", "tls.key"]
    assert len(authorities) == 1


def test_clients_expect_the_name_that_is_in_the_servers_certificate(secured: Rendered, tmp_path: Path) -> None:
    expected = secured.environment("client")["BOOK_CLIENT_TLS_SERVER_NAME"]
    assert dns_names(files_of(secured, "server", tmp_path / "server")) == [expected]


@pytest.mark.parametrize("members", [1, 3])
def test_etcds_certificate_has_every_name_by_which_it_is_called(members: int, tmp_path: Path) -> None:
    rendered = render({"tls.enabled": True, "etcd.replicas": members, "etcd.persistence.enabled": True})
    names = {*dns_names(files_of(rendered, "etcd", tmp_path / "etcd"))}
    command = rendered.container("etcd")["command"]
    (cluster,) = (flag.partition("=")[2] for flag in command if flag.startswith("--initial-cluster="))
    urls = [member.partition("=")[2] for member in cluster.split(",")]
    assert {urlsplit(url).scheme for url in urls} == {"https"}
    assert names >= {str(urlsplit(url).hostname) for url in urls}
    for component, variable in (("server", "BOOK_SERVER_ETCD"), ("client", "BOOK_CLIENT_ETCD")):
        endpoints = str(rendered.environment(component)[variable]).split(",")
        assert names >= {endpoint.partition(":")[0] for endpoint in endpoints}
    assert urlsplit(rendered.environment("etcd")["ETCDCTL_ENDPOINTS"]).hostname in names


def test_etcd_takes_nobody_without_a_certificate_neither_clients_nor_members(secured: Rendered) -> None:
    command = secured.container("etcd")["command"]
    assert {"--client-cert-auth", "--peer-client-cert-auth", "--enable-grpc-gateway=false"} <= {*command}
    plain = [flag for flag in command if "http://" in flag]
    # What that port shows is looked at in tests/integration/test_etcd_of_the_chart.py.
    assert plain == ["--listen-metrics-urls=http://0.0.0.0:2381"]


def flag(command: list[str], name: str) -> list[str]:
    """The values of a flag that is a comma list."""
    (value,) = (word.partition("=")[2] for word in command if word.partition("=")[0] == name)
    return value.split(",")


def test_etcd_takes_just_the_certificates_of_this_release(secured: Rendered, tmp_path: Path) -> None:
    command = secured.container("etcd")["command"]
    names = {side: dns_names(files_of(secured, side, tmp_path / side)) for side in ("server", "client", "etcd")}
    # Its own is what `kubectl exec … etcdctl` shows.
    allowed = flag(command, "--client-cert-allowed-hostname")
    assert [side for side in names if {*names[side]} & {*allowed}] == ["server", "client", "etcd"]
    assert len(allowed) == 3
    (peer,) = flag(command, "--peer-cert-allowed-hostname")
    assert [side for side in names if peer in names[side]] == ["etcd"]


def test_etcd_takes_the_names_that_it_is_told_of() -> None:
    values = {**SECRETS, "tls.serverName": "books", "tls.clientName": "reader"}
    command = render({**values, "tls.etcdFrom": ["other-bookmesh-client"]}).container("etcd")["command"]
    assert flag(command, "--client-cert-allowed-hostname") == [
        *("books", "reader", "demo-bookmesh-etcd"),
        "other-bookmesh-client",
    ]


def test_servers_take_the_names_that_they_are_told_of() -> None:
    assert render({"tls.enabled": True}).environment("server")["BOOK_SERVER_TLS_CLIENT_NAMES"] == "demo-bookmesh-client"
    values = {"tls.enabled": True, "tls.clientName": "reader", "tls.serverFrom": ["spiffe://books/other", "other"]}
    names = render(values).environment("server")["BOOK_SERVER_TLS_CLIENT_NAMES"]
    assert names == "reader,spiffe://books/other,other"


def test_the_clients_certificate_has_the_name_that_is_asked_for(tmp_path: Path) -> None:
    rendered = render({"tls.enabled": True, "tls.clientName": "reader"})
    assert dns_names(files_of(rendered, "client", tmp_path / "client")) == ["reader"]
    issued = render({"tls.enabled": True, "tls.issuer": ISSUER, "tls.clientName": "reader"})
    assert issued.one("Certificate", "client")["spec"]["dnsNames"] == ["reader"]


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_etcds_probes_need_no_certificate(secured: Rendered, probe: str) -> None:
    etcd = secured.container("etcd")
    (port,) = (port["containerPort"] for port in etcd["ports"] if port["name"] == etcd[probe]["httpGet"]["port"])
    assert f"--listen-metrics-urls=http://0.0.0.0:{port}" in etcd["command"]


@pytest.mark.parametrize(
    ("component", "mounted"), [("server", "server"), ("client", "client"), ("test", "client"), ("etcd", "etcd")]
)
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
    arguments = []
    for name, value in environment.items():
        if name.startswith("BOOK_") and value is not None and value != "false":
            flag = name.removeprefix("BOOK_SERVER_").removeprefix("BOOK_CLIENT_").lower().replace("_", "-")
            given = f"{folder}/{Path(value).name}" if value.startswith("/tls/") else value
            arguments.append(f"--{flag}" if given == "true" else f"--{flag}={given}")
    return command.make_context("program", arguments).params


def etcd_files(flags: dict[str, Any]) -> PemFiles:
    return PemFiles(flags["etcd_ca"], flags["etcd_cert"], flags["etcd_key"])


def test_the_server_takes_its_files(secured: Rendered, tmp_path: Path) -> None:
    folder = files_of(secured, "server", tmp_path / "server")
    flags = parameters(server_command, secured.environment("server"), folder)
    assert etcd_files(flags).read().cert == (folder / "tls.crt").read_bytes()
    assert ServerTls(PemFiles(flags["tls_client_ca"], flags["tls_cert"], flags["tls_key"])).credentials()


def test_the_client_takes_its_files(secured: Rendered, tmp_path: Path) -> None:
    folder = files_of(secured, "client", tmp_path / "client")
    flags = parameters(client_command, secured.environment("client"), folder)
    assert etcd_files(flags).read().cert == (folder / "tls.crt").read_bytes()
    watch = PemWatch(PemFiles(flags["tls_ca"], flags["tls_cert"], flags["tls_key"]))
    assert ClientTls(watch, flags["tls_server_name"]).credentials()


def test_probes_have_a_port_without_tls_of_their_own(secured: Rendered) -> None:
    assert secured.environment("server")["BOOK_SERVER_HEALTH_LISTEN"] == "0.0.0.0:50052"
    assert secured.container("server")["readinessProbe"]["grpc"] == {"port": 50052}


def test_cert_manager_makes_them_where_it_has_an_issuer() -> None:
    rendered = render({"tls.enabled": True, "tls.issuer": ISSUER})
    assert rendered.of_kind("Secret") == []
    for component, usages in (
        ("server", ["server auth", "client auth"]),
        ("client", ["client auth"]),
        ("etcd", ["server auth", "client auth"]),
    ):
        made = rendered.one("Certificate", component)["spec"]
        assert made["issuerRef"] == ISSUER
        assert made["usages"] == usages
        (volume,) = (volume for volume in rendered.pods()[component]["spec"]["volumes"] if volume["name"] == "tls")
        assert volume["secret"]["secretName"] == made["secretName"]
    assert rendered.one("Certificate", "server")["spec"]["dnsNames"] == [
        rendered.environment("client")["BOOK_CLIENT_TLS_SERVER_NAME"]
    ]
    assert "demo-bookmesh-etcd" in rendered.one("Certificate", "etcd")["spec"]["dnsNames"]


def test_secrets_of_ones_own_are_taken_as_they_are() -> None:
    values = {**OWN_SECRETS, "tls.etcdSecret": "etcds", "tls.serverName": "books"}
    rendered = render(values)
    assert rendered.of_kind("Secret", "Certificate") == []
    assert rendered.pods()["server"]["spec"]["volumes"][0]["secret"]["secretName"] == "theirs"
    assert rendered.pods()["client"]["spec"]["volumes"][0]["secret"]["secretName"] == "ours"
    assert rendered.pods()["etcd"]["spec"]["volumes"][-1]["secret"]["secretName"] == "etcds"
    assert rendered.environment("client")["BOOK_CLIENT_TLS_SERVER_NAME"] == "books"


@pytest.mark.parametrize(
    "values",
    [
        {"tls.enabled": True, "tls.serverSecret": "theirs"},
        {"tls.enabled": True, "tls.etcdSecret": "etcds"},
        {**EXTERNAL_ETCD, "tls.enabled": True, "tls.clientSecret": "ours"},
        OWN_SECRETS,
    ],
)
def test_one_secret_of_ones_own_without_the_others_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(RenderError, match="needed together"):
        render(values)


def test_an_etcd_of_ones_own_has_secrets_of_its_own_beside_those_between_client_and_server() -> None:
    rendered = render({**EXTERNAL_ETCD, **OWN_SECRETS})
    for component, prefix, secret in (
        ("server", "BOOK_SERVER", "theirs"),
        ("client", "BOOK_CLIENT", "ours"),
        ("test", "BOOK_CLIENT", "ours"),
    ):
        spec = rendered.pods()[component]["spec"]
        volumes = {volume["name"]: volume["secret"] for volume in spec["volumes"] if "secret" in volume}
        assert {name: volume["secretName"] for name, volume in volumes.items()} == {
            "tls": secret,
            "etcd-tls": "etcd-client",
            "etcd-login": "etcd-user",
        }
        # Owned by root, read by way of the pod's group.
        assert {volume["defaultMode"] for volume in volumes.values()} == {0o440}
        # The name comes as a variable.
        assert volumes["etcd-login"]["items"] == [{"key": "password", "path": "password"}]
        for container in (*spec.get("initContainers", []), *spec["containers"]):
            assert {"name": "etcd-tls", "mountPath": "/etcd-tls", "readOnly": True} in container["volumeMounts"]
            assert {"name": "etcd-login", "mountPath": "/etcd-login", "readOnly": True} in container["volumeMounts"]
            variables = {entry["name"]: entry for entry in container["env"]}
            assert variables[f"{prefix}_ETCD_CA"]["value"] == "/etcd-tls/ca.crt"
            assert variables[f"{prefix}_ETCD_CERT"]["value"] == "/etcd-tls/tls.crt"
            assert variables[f"{prefix}_ETCD_KEY"]["value"] == "/etcd-tls/tls.key"
            assert variables[f"{prefix}_ETCD_USER"]["valueFrom"] == {
                "secretKeyRef": {"name": "etcd-user", "key": "username"}
            }
            assert variables[f"{prefix}_ETCD_PASSWORD_FILE"]["value"] == "/etcd-login/password"


def test_an_etcd_that_asks_for_no_certificate_is_shown_none() -> None:
    environment = render({**EXTERNAL_ETCD, "etcd.clientCertificate": False}).environment("server")
    assert environment["BOOK_SERVER_ETCD_CA"] == "/etcd-tls/ca.crt"
    assert not {"BOOK_SERVER_ETCD_CERT", "BOOK_SERVER_ETCD_KEY"} & {*environment}


def test_tls_between_client_and_server_says_nothing_about_an_etcd_of_ones_own() -> None:
    environment = render({**EXTERNAL_ETCD, "etcd.tlsSecret": "", "tls.enabled": True}).environment("server")
    assert "BOOK_SERVER_TLS_CERT" in environment
    assert "BOOK_SERVER_ETCD_CA" not in environment


@pytest.mark.parametrize("value", ["etcd.tlsSecret", "etcd.loginSecret"])
def test_secrets_for_an_etcd_of_ones_own_are_refused_where_the_release_runs_one(value: str) -> None:
    with pytest.raises(RenderError, match=r"for an etcd of your own, with etcd\.enabled false"):
        render({value: "mine"})
