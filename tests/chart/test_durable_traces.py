"""Traces that outlive Zipkin's pod: a MariaDB in the release, and a gate before Zipkin."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest

from tests.chart.test_network_policies import STRANGER, allows, reaches
from tests.chart.test_upgrades import upgrade
from tests.support.chart import CHART, Rendered, RenderError, notes_of, render

DURABLE: dict[str, Any] = {"zipkin.storage.type": "mariadb", "zipkin.image.repository": "openzipkin/zipkin"}


@pytest.fixture(scope="module")
def durable() -> Rendered:
    return render(DURABLE)


def test_zipkin_stores_in_the_releases_mariadb_with_the_login_that_it_was_given(durable: Rendered) -> None:
    zipkin, _ = durable.pods()["zipkin"]["spec"]["containers"]
    service = durable.one("Service", "mariadb")
    environment = {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in zipkin["env"]}
    assert environment["STORAGE_TYPE"] == "mysql"
    assert environment["MYSQL_HOST"] == service["metadata"]["name"]
    secret = durable.one("Secret", "mariadb")
    own = {entry["name"]: entry["valueFrom"] for entry in durable.container("mariadb")["env"]}
    for ours, theirs, key in (
        ("MYSQL_USER", "MARIADB_USER", "username"),
        ("MYSQL_PASS", "MARIADB_PASSWORD", "password"),
    ):
        assert environment[ours] == own[theirs] == {"secretKeyRef": {"name": secret["metadata"]["name"], "key": key}}
    assert base64.b64decode(secret["data"]["username"]) == b"zipkin"
    assert re.fullmatch(rb"[A-Za-z0-9]{32}", base64.b64decode(secret["data"]["password"]))


def test_an_upgrade_keeps_the_password(tmp_path: Path, durable: Rendered) -> None:
    assert (
        render({**DURABLE, "mariadb.podLabels": {"a": "b"}}).one("Secret", "mariadb")["data"]
        != durable.one("Secret", "mariadb")["data"]
    ), "each release has its own"
    upgraded = upgrade(durable, DURABLE, tmp_path)
    assert upgraded.one("Secret", "mariadb")["data"] == durable.one("Secret", "mariadb")["data"]


def test_a_login_of_ones_own_takes_the_place_of_the_releases() -> None:
    rendered = render({**DURABLE, "zipkin.storage.secret": "login"})
    assert rendered.of_kind("Secret") == []
    for component in ("zipkin", "mariadb"):
        container = rendered.pods()[component]["spec"]["containers"][0]
        names = {entry["valueFrom"]["secretKeyRef"]["name"] for entry in container["env"] if "valueFrom" in entry}
        assert names == {"login"}, component


def test_mariadb_keeps_its_data_on_a_volume_until_the_release_goes() -> None:
    values = {"mariadb.persistence": {"size": "3Gi", "storageClass": "fast"}}
    database = render({**DURABLE, **values}).one("StatefulSet", "mariadb")
    (claim,) = database["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "3Gi"
    assert claim["spec"]["storageClassName"] == "fast"
    assert database["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete"
    mounts = database["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert claim["metadata"]["name"] in {mount["name"] for mount in mounts}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"mariadb.persistence.size": "3Gi"}, r"mariadb\.persistence\.size is 2Gi and cannot become 3Gi"),
        (
            {"mariadb.persistence.storageClass": "slow"},
            r'mariadb\.persistence\.storageClass is "" and cannot become "slow"',
        ),
    ],
)
def test_an_upgrade_cannot_change_the_volume(
    values: dict[str, Any], sentence: str, durable: Rendered, tmp_path: Path
) -> None:
    with pytest.raises(RenderError, match=sentence):
        upgrade(durable, {**DURABLE, **values}, tmp_path)


@pytest.mark.parametrize(("size", "spans"), [("2Gi", 229376), ("1Gi", 98304), ("100Gi", 13074432)])
def test_the_oldest_spans_go_before_the_volume_is_full(size: str, spans: int, tmp_path: Path) -> None:
    values = {**DURABLE, "mariadb.persistence.size": size}
    sql = render(values).one("ConfigMap", "mariadb")["data"]["zipkin.sql"]
    assert f"LIMIT 1 OFFSET {spans})" in sql
    assert "SPANS" not in sql
    seconds = spans // 100
    assert f"the last {spans} spans on its volume, 5 a call: those of the last {seconds} s at least" in notes_of(
        values, tmp_path
    )


def test_their_going_takes_no_lock_on_those_that_come(durable: Rendered) -> None:
    # Under MariaDB's own default, both have been seen to deadlock, and a span was lost.
    assert "--transaction-isolation=READ-COMMITTED" in durable.container("mariadb")["command"][-1]


def test_a_volume_that_its_log_would_fill_is_refused() -> None:
    with pytest.raises(RenderError, match=r"mariadb\.persistence\.size is 300Mi: at least 340Mi are needed"):
        render({**DURABLE, "mariadb.persistence.size": "300Mi"})


def test_each_statement_of_the_start_may_find_its_work_done() -> None:
    lines = (CHART / "files/zipkin.sql").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("--"))
    statements = [statement.strip() for statement in text.split(";") if statement.strip()]
    assert len(statements) == 4
    for statement in statements:
        assert re.match(r"CREATE (TABLE IF NOT EXISTS|OR REPLACE) ", statement), statement


def test_who_calls_zipkin_meets_its_gate_which_ends_before_it(durable: Rendered) -> None:
    pod = durable.pods()["zipkin"]["spec"]
    zipkin, gate = pod["containers"]
    (port,) = durable.one("Service", "zipkin")["spec"]["ports"]
    assert [entry["name"] for entry in gate["ports"]] == [port["targetPort"]]
    outer, inner = gate["command"][-2:]
    assert int(outer) == gate["ports"][0]["containerPort"]
    assert {"name": "QUERY_PORT", "value": inner} in zipkin["env"]
    assert [entry["containerPort"] for entry in zipkin["ports"]] == [int(inner)]
    waits = int(zipkin["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert 0 < waits < pod.get("terminationGracePeriodSeconds", 30)
    assert "lifecycle" not in gate
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert zipkin[probe]["httpGet"]["port"] == zipkin["ports"][0]["name"], probe
    script = durable.one("ConfigMap", "zipkin")["data"]["gate.py"]
    assert script.strip() == (CHART / "files/gate.py").read_text().strip()


def test_a_store_that_is_away_is_no_reason_to_make_zipkin_anew(durable: Rendered, default: Rendered) -> None:
    for rendered in (durable, default):
        zipkin = rendered.pods()["zipkin"]["spec"]["containers"][0]
        assert zipkin["readinessProbe"]["httpGet"]["path"] == "/health"
        assert zipkin["livenessProbe"]["httpGet"]["path"] == "/info"


def test_the_database_is_zipkins_alone(durable: Rendered) -> None:
    pods = durable.pods()
    for caller, pod in {**pods, "stranger": STRANGER}.items():
        assert reaches(durable, pod, pods["mariadb"], 3306) is (caller == "zipkin"), caller
    assert not allows(durable, "Egress", pods["mariadb"], STRANGER, STRANGER, port=443)
    assert not allows(durable, "Egress", pods["zipkin"], STRANGER, STRANGER, port=443)
    for caller in ("client", "server", "test"):
        assert reaches(durable, pods[caller], pods["zipkin"], 9411), caller
        assert not reaches(durable, pods[caller], pods["zipkin"], 9412), f"{caller} would pass by the gate"


@pytest.mark.parametrize("values", [{}, {"zipkin.enabled": False, "zipkin.storage.type": "mariadb"}])
def test_without_it_there_is_no_database_and_no_gate(values: dict[str, Any]) -> None:
    rendered = render(values)
    assert "mariadb" not in rendered.pods()
    assert [manifest for manifest in rendered.all if "mariadb" in manifest["metadata"]["name"]] == []
    if "zipkin" in rendered.pods():
        assert "lifecycle" not in rendered.container("zipkin")
