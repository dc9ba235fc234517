"""What an upgrade does with what is there already: kept, or refused with a sentence before anything is changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.chart.fake_api import api_server
from tests.support.chart import Rendered, RenderError, render

ETCD = {"etcd.replicas": 3, "etcd.persistence.enabled": True}


def upgrade(there: Rendered, values: dict[str, Any], tmp_path: Path) -> Rendered:
    """Render as `helm upgrade` does where the cluster has these objects."""
    with api_server(there.all, "books") as url:
        # Not the user's kubeconfig, nor what Helm's discovery remembers of another server at this port.
        environment = {"HOME": str(tmp_path), "KUBECONFIG": "/dev/null"}
        return render(values, flags=("--dry-run=server", f"--kube-apiserver={url}"), environment=environment)


def test_an_upgrade_without_changes_is_taken(tmp_path: Path) -> None:
    values = {**ETCD, "etcd.persistence.storageClass": "fast", "tls.enabled": True}
    upgrade(render(values), values, tmp_path)


def test_a_size_may_be_written_in_another_way(tmp_path: Path) -> None:
    there = render({**ETCD, "etcd.persistence.size": "1Gi"})
    upgrade(there, {**ETCD, "etcd.persistence.size": "1024Mi"}, tmp_path)


@pytest.mark.parametrize(
    ("there", "wanted", "sentence"),
    [
        ({}, {**ETCD}, r"etcd\.replicas is 1 and cannot become 3 by an upgrade"),
        (ETCD, {**ETCD, "etcd.persistence.size": "2Gi"}, r"etcd\.persistence\.size is 1Gi and cannot become 2Gi"),
        (
            {"etcd.persistence.enabled": True, "etcd.persistence.storageClass": "slow"},
            {"etcd.persistence.enabled": True, "etcd.persistence.storageClass": "fast"},
            r'etcd\.persistence\.storageClass is "slow" and cannot become "fast"',
        ),
        ({}, {"etcd.persistence.enabled": True}, r"etcd\.persistence\.enabled is false and cannot become true"),
        ({"etcd.persistence.enabled": True}, {}, r"etcd\.persistence\.enabled is true and cannot become false"),
        (ETCD, {**ETCD, "tls.enabled": True}, r"tls\.enabled cannot be changed by an upgrade where etcd has three"),
        (
            {"fullnameOverride": "mesh"},
            {"fullnameOverride": "mesh", "nameOverride": "books"},
            r"nameOverride cannot be changed by an upgrade",
        ),
    ],
)
def test_what_kubernetes_would_forbid_halfway_is_refused_with_a_sentence(
    there: dict[str, Any], wanted: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(RenderError, match=sentence):
        upgrade(render(there), wanted, tmp_path)


@pytest.mark.parametrize(
    ("values", "replicas"),
    [
        ({}, 3),
        ({"server.autoscaling.enabled": True}, 7),
        ({"server.autoscaling": {"enabled": True, "minReplicas": 8}}, 8),
    ],
)
def test_the_number_of_servers_that_is_there_is_kept_where_the_chart_does_not_set_it(
    values: dict[str, Any], replicas: int, tmp_path: Path
) -> None:
    there = render({"server.replicas": 7})
    assert upgrade(there, values, tmp_path).one("Deployment", "server")["spec"]["replicas"] == replicas


def test_certificates_are_kept_until_a_name_changes(tmp_path: Path) -> None:
    there = render({"tls.enabled": True})
    files = {secret["metadata"]["name"]: secret["data"] for secret in there.of_kind("Secret")}
    for values, kept in (({}, True), ({"tls.serverName": "books"}, False), ({"tls.clientName": "reader"}, False)):
        upgraded = upgrade(there, {"tls.enabled": True, **values}, tmp_path)
        for secret in upgraded.of_kind("Secret"):
            assert (secret["data"] == files[secret["metadata"]["name"]]) is kept, values
