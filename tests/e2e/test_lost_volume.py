"""A member of etcd that loses its volume comes back by what the chart's README says."""

import shlex

from tests.e2e.harness.mesh import CHART, Mesh
from tests.e2e.harness.waiting import NotYetError, until

MEMBER = "mesh-bookmesh-etcd-1"


def test_a_member_that_lost_its_volume_is_back_by_the_commands_of_the_charts_readme(mesh: Mesh) -> None:
    mesh.install(replicas=2, etcd={"replicas": 3, "persistence": {"enabled": True}})
    lines = (CHART / "README.md").read_text().splitlines()
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("kubectl ") and MEMBER in line]
    assert [command[0] for command in commands] == ["delete", "delete", "annotate"]
    (before,) = (pod.uid for pod in mesh.living("etcd") if pod.name == MEMBER)

    def made_anew() -> None:
        if before in {pod.uid for pod in mesh.living("etcd")}:
            raise NotYetError("the old pod is there")
        if MEMBER not in {pod.name for pod in mesh.living("etcd")}:
            raise NotYetError("no pod")

    for command in commands:
        mesh.mark(" ".join(command[:2]))
        if command[0] == "annotate":
            until(made_anew, within=60, what=f"another pod {MEMBER}")
        mesh.cluster.kubectl(mesh.namespace, *command)
    mesh.wait_ready("etcd", 3, within=180)
    members = mesh.registry.etcdctl("member", "list")
    assert members.count("started") == 3, members
    mesh.wait_calls(50)
