from structlog.testing import capture_logs

from meshkit.etcd.cluster import Cluster
from tests.support.fake_time import fake_time

OURS, THEIRS = 0xA, 0xB


def named(cluster: Cluster, member: int, an_id: int, *, first: bool = True) -> bool:
    return cluster.named(member, f"etcd-{member}:2379", an_id, first=first)


@fake_time
async def test_a_member_that_names_another_cluster_is_of_no_use_and_told_of_once() -> None:
    cluster = Cluster(3)
    assert named(cluster, 0, OURS)
    with capture_logs() as logs:
        assert not any(named(cluster, 1, THEIRS) for _ in range(50))
    assert [entry["event"] for entry in logs] == ["etcd member of another cluster not used"]
    assert named(cluster, 2, OURS)


@fake_time
async def test_the_first_to_answer_gives_way_to_what_most_members_name() -> None:
    cluster = Cluster(3)
    assert named(cluster, 0, THEIRS)
    assert not named(cluster, 1, OURS)
    assert named(cluster, 2, OURS)
    assert cluster.is_odd(0)
    assert not named(cluster, 0, THEIRS)


@fake_time
async def test_of_two_members_only_both_can_name_a_new_cluster_as_after_a_restore() -> None:
    cluster = Cluster(2)
    assert named(cluster, 0, OURS)
    assert not any(named(cluster, 1, THEIRS) for _ in range(10))
    assert named(cluster, 0, THEIRS)
    assert named(cluster, 1, THEIRS)


@fake_time
async def test_behind_one_name_three_connections_in_a_row_make_a_new_cluster() -> None:
    cluster = Cluster(1)
    assert named(cluster, 0, OURS)
    for _ in range(5):
        # Of three members behind that name one is odd.
        assert not named(cluster, 0, THEIRS)
        assert not named(cluster, 0, THEIRS)
        assert not named(cluster, 0, THEIRS, first=False)
        assert named(cluster, 0, OURS)
    assert [named(cluster, 0, THEIRS) for _ in range(3)] == [False, False, True]


@fake_time
async def test_an_answer_that_names_no_cluster_is_taken() -> None:
    cluster = Cluster(1)
    assert named(cluster, 0, OURS)
    assert named(cluster, 0, 0)
    assert cluster.id == OURS
