"""A fresh install, as a user makes it."""

from collections import Counter

from tests.e2e.harness.mesh import Mesh

STEADY_CALLS = 300


def test_install_is_ready_balanced_and_proves_itself(mesh: Mesh) -> None:
    mesh.install(replicas=3)
    mesh.mark("steady")
    first = len(mesh.picks())
    mesh.wait_calls(STEADY_CALLS)
    counts = Counter(pick.instance for pick in mesh.picks()[first:])
    mesh.mark("helm test")
    mesh.helm("test", mesh.release, "--logs")
    calls = mesh.stop_traffic()
    verdict = mesh.verdict(calls)

    spread = max(counts.values()) - min(counts.values())
    mesh.record.figure("spread over the replicas", f"{spread}", "at most 1")
    assert set(counts) == {replica.instance for replica in mesh.replicas()}
    assert spread <= 1, counts
    assert [call for call in calls if not call.ok] == []
    assert verdict.whole == verdict.calls == len(calls) >= STEADY_CALLS, str(verdict)
    assert set(verdict.served) >= set(counts)
    assert [line for line in mesh.warnings if "PodSecurity" in line] == []
    assert mesh.registry.instances() == mesh.instances() == set(counts)
