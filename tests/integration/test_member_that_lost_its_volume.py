"""The script that runs before a member of the chart's etcd starts: it tells a lost volume from a new cluster."""

import asyncio
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from localmesh.components import EtcdCluster, EtcdServer
from meshkit.etcd import EtcdClient
from tests.support.chart import CHART

EXISTING = {"ETCD_INITIAL_CLUSTER_STATE": "existing"}


async def script(member: EtcdServer, cluster: EtcdCluster, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it as it would before that member starts."""
    # In a pod, hosts differ and ports do not; here it is the other way round.
    others = ",".join(
        other.address.replace("127.0.0.1", "localhost") for other in cluster.members if other is not member
    )
    url = f"http://127.0.0.1:{member.peer_port}"
    command = [sys.executable, str(CHART / "files/rejoin.py"), str(member.data), url, others]
    env = {**os.environ, "POD_NAME": "etcd-1", **environment}
    run = partial(subprocess.run, command, env=env, capture_output=True, text=True, timeout=90, check=False)
    done: subprocess.CompletedProcess[str] = await asyncio.to_thread(run)
    return done


async def test_a_member_that_lost_its_data_joins_again_once_it_is_told_to(run_dir: Path) -> None:
    async with EtcdCluster(run_dir) as cluster:
        async with EtcdClient(cluster.addresses.split(",")) as client:
            await client.put("/books", "there")
        lost = cluster.members[1]
        assert (await script(lost, cluster)).stdout == "its data is there\n"
        await lost.process.kill()
        lost.wipe()

        refused = await script(lost, cluster)
        assert refused.returncode == 1
        assert "kubectl annotate pod etcd-1 bookmesh/initial-cluster-state=existing" in refused.stderr

        # The second time it is there without having started, as where its pod was ended in between.
        for _ in range(2):
            joined = await script(lost, cluster, **EXISTING)
            assert joined.stdout == "it lost its data, and joins the others anew\n", joined.stderr

        again = EtcdServer(run_dir, "--initial-cluster-state", "existing", name=lost.name, port=lost.port)
        again.peer_port, again.cluster = lost.peer_port, lost.cluster
        cluster.members[1] = again
        await again.start()
        async with EtcdClient([again.address]) as client:
            assert [item.value for item in (await client.list("/books")).items] == ["there"]


async def test_where_nobody_answers_the_cluster_is_new(run_dir: Path) -> None:
    cluster = EtcdCluster(run_dir)
    done = await script(cluster.members[0], cluster)
    assert (done.returncode, done.stdout) == (0, "no other member answers: the cluster is new\n")


async def test_a_member_that_starts_for_the_first_time_after_the_others_is_not_lost(run_dir: Path) -> None:
    cluster = EtcdCluster(run_dir)
    first, second, late = cluster.members
    try:
        # Two are a quorum; they wait for each other.
        await asyncio.gather(first.start(), second.start())
        done = await script(late, cluster)
        assert (done.returncode, done.stdout) == (0, "the cluster is new\n"), done.stderr
        await late.start()
    finally:
        for member in cluster.members:
            await member.stop()
