"""The admin port: the page and metrics of a running mesh, and a replica that is broken and healed from there."""

import re
import time
from collections.abc import Callable
from functools import partial

import requests

from tests.e2e.harness.expectations import all_succeeded, all_whole
from tests.e2e.harness.forward import forwarded
from tests.e2e.harness.mesh import Mesh
from tests.e2e.harness.waiting import NotYetError, until

PORT = ":9464"
EJECTED_WITHIN, BACK_WITHIN = 5.0, 10.0


def test_a_replica_that_is_broken_from_the_page_is_ejected_and_comes_back_when_healed(mesh: Mesh) -> None:
    mesh.install(replicas=3, admin={"actions": True})
    # Its readiness is that of the admin port.
    (client,) = mesh.wait_ready("client", 1)
    with forwarded(mesh.cluster, ("kubectl", "-n", mesh.namespace, "port-forward", f"pod/{client.name}", PORT)) as url:
        page = get(f"{url}/")
        assert page.headers["content-type"].startswith("text/html")
        assert "<title>" in page.text
        for asset in re.findall(r'(?:src|href)="/?(assets/[^"]+)"', page.text):
            get(f"{url}/{asset}")
        until(partial(ready, url, 3), within=30, what="3 ready instances")
        victim = min(mesh.instances())

        mesh.mark(f"{victim} is sickened", "fault")
        act(url, "sicken", instance=victim, percent=100)
        took = timed(lambda: ejected(url, victim), within=mesh.bound(EJECTED_WITHIN), what=f"{victim} ejected")
        mesh.record.figure("sickened to ejected", f"{took:.1f} s", f"{EJECTED_WITHIN:g} s")
        mesh.wait_calls(200)
        mesh.mark("it is healed", "recovery")
        act(url, "heal", instance=victim)
        took = timed(lambda: ready(url, 3), within=mesh.bound(BACK_WITHIN), what="3 ready instances again")
        mesh.record.figure("healed to back", f"{took:.1f} s", f"{BACK_WITHIN:g} s")
        healed = time.time()
        mesh.wait_calls(200)

    calls = mesh.stop_traffic()
    verdict = mesh.verdict(calls)
    assert victim in {call.instance for call in calls if call.start > healed}
    all_succeeded(mesh, calls)
    all_whole(mesh, verdict, calls)


def test_both_programs_have_metrics_and_actions_are_off_unless_asked_for(mesh: Mesh) -> None:
    mesh.install(replicas=2)
    mesh.wait_ready("client", 1)
    mesh.wait_calls(50)
    for component, name in (
        ("client", "grpc_client_call_duration_seconds_count"),
        ("server", "meshkit_registered 1.0"),
    ):
        pod = mesh.living(component)[0]
        with forwarded(mesh.cluster, ("kubectl", "-n", mesh.namespace, "port-forward", f"pod/{pod.name}", PORT)) as url:
            assert name in get(f"{url}/metrics").text, component
            assert get(f"{url}/readyz").text == "ready\n", component
            refused = requests.post(f"{url}/actions/sicken", json={"instance": min(mesh.instances())}, timeout=10)
            assert 400 <= refused.status_code < 500, f"{component}: {refused.status_code} {refused.text}"
    calls = mesh.stop_traffic()
    mesh.verdict(calls)
    all_succeeded(mesh, calls)


def get(url: str) -> requests.Response:
    answer = requests.get(url, timeout=10)
    answer.raise_for_status()
    return answer


def act(url: str, action: str, **body: object) -> None:
    answer = requests.post(f"{url}/actions/{action}", json=body, timeout=10)
    assert answer.status_code == 200, answer.text
    assert answer.json()["ok"] is True


def states(url: str) -> dict[str, float]:
    """The number of instances in each state, as the client's metrics have it."""
    found = re.findall(r'^meshkit_instances\{.*state="(\w+)".*\} (\S+)$', get(f"{url}/metrics").text, re.MULTILINE)
    return {state: float(count) for state, count in found}


def ready(url: str, count: int) -> None:
    if (seen := states(url)).get("ready") != count:
        raise NotYetError(str(seen))


def ejected(url: str, instance: str) -> None:
    if not (seen := states(url)).get("ejected"):
        raise NotYetError(f"{instance}: {seen}")


def timed(probe: Callable[[], None], *, within: float, what: str) -> float:
    began = time.monotonic()
    until(probe, within=within, what=what, every=0.05)
    return time.monotonic() - began
