"""What the user chooses for the cluster: of use, or one line that says what was expected."""

from __future__ import annotations

import pytest
import yaml

from deploy.kind.cluster import configuration_of
from deploy.kind.errors import KindError
from deploy.kind.images import origin
from deploy.kind.settings import ROOT, Settings, program_images


def test_nothing_chosen_is_the_default() -> None:
    assert Settings.of({}) == Settings.of({"CLUSTER": "", "ZIPKIN_PORT": "", "IMAGES": "", "NODE": ""}) == Settings()


def test_every_choice_is_taken() -> None:
    chosen = {"CLUSTER": "mine-2.a", "ZIPKIN_PORT": "0", "IMAGES": "registry", "NODE": "kindest/node:v1.36.0"}
    assert Settings.of(chosen) == Settings("mine-2.a", 0, "registry", "kindest/node:v1.36.0", "ipv4")
    assert Settings.of({"IP_FAMILY": "ipv6"}).ip_family == "ipv6"


@pytest.mark.parametrize(("family", "subnet"), [("ipv4", "10.244.0.0/16"), ("ipv6", "fd00:10:244::/56")])
def test_pods_have_addresses_of_the_ip_family_and_the_node_knows_their_range(family: str, subnet: str) -> None:
    configuration = yaml.safe_load(configuration_of(Settings(ip_family=family, zipkin_port=0), "nftables"))
    networking = {"ipFamily": family, "podSubnet": subnet, "kubeProxyMode": "nftables"}
    assert configuration["networking"] == networking
    assert configuration["nodes"][0]["extraPortMappings"][0]["hostPort"] == 0
    pod_network = ROOT / "deploy/kind/from_source/node/files/usr/local/bin/pod-network"
    assert f"pods={subnet} " in pod_network.read_text()


@pytest.mark.parametrize(
    "chosen",
    [
        *({"CLUSTER": name} for name in ("Mine", "-a", "a b", "a/../b", "ä", "a\n")),
        *({"ZIPKIN_PORT": port} for port in ("-1", "65536", "94 11", "http", "1e3", "²", "000009411")),
        {"IMAGES": "docker"},
        *({"IP_FAMILY": family} for family in ("dual", "6", "IPv6")),
    ],
)
def test_a_value_of_no_use_is_one_line_that_names_the_variable(chosen: dict[str, str]) -> None:
    with pytest.raises(KindError, match=f"^{next(iter(chosen))} is .*expected") as error:
        Settings.of(chosen)
    assert "\n" not in str(error.value)


def test_a_node_image_cannot_be_chosen_where_it_is_made_from_source() -> None:
    with pytest.raises(KindError, match="NODE is 'kindest/node:v1': only where images are pulled"):
        origin(Settings(images="source", node="kindest/node:v1"))
    assert origin(Settings(images="registry", node="kindest/node:v1")) == "registry"


def test_the_programs_images_are_the_charts() -> None:
    server, client = program_images()
    assert server.startswith("bookmesh/book-server:")
    assert client.startswith("bookmesh/book-client:")
