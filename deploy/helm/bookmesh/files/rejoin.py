"""Before a member of etcd starts: whether it has lost its volume, and if so, its place among the others.

The others know a member by an identity that it got when the cluster was new. One that comes back without its data must
not come back as itself: it has forgotten what it promised. So its old identity is removed and a new one added, with
which etcd starts as a member that joins a cluster that is there. Runs in the client's image, as etcd's has no shell.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
from etcd3 import etcdrpc

# Seconds for another member to answer; they are asked one after the other.
PATIENCE = 5
# Seconds for them to agree: they change their membership only when all of them have been connected for a while.
AGREED = 30


def channels(endpoints: list[str]) -> Iterator[grpc.Channel]:
    """A channel to each member; with TLS where etcdctl's variables say so."""
    files = [os.environ.get(name) for name in ("ETCDCTL_CACERT", "ETCDCTL_KEY", "ETCDCTL_CERT")]
    for endpoint in endpoints:
        if files[0]:
            pem = [Path(file).read_bytes() for file in files if file]
            with grpc.secure_channel(endpoint, grpc.ssl_channel_credentials(*pem)) as channel:
                yield channel
        else:
            with grpc.insecure_channel(endpoint) as channel:
                yield channel


def members(cluster: Any) -> list[Any]:
    """What one member says of all; [] where it does not answer."""
    try:
        return list(cluster.MemberList(etcdrpc.MemberListRequest(), timeout=PATIENCE, wait_for_ready=True).members)
    except grpc.RpcError:
        return []


def rejoin(cluster: Any, known: list[Any], url: str, *, joins: bool) -> str:
    """Take a place among those that are there, if it has been lost; says what was done.

    Args:
        cluster: Another member's Cluster service.
        known: The members that there are.
        url: Of this one, for the others.
        joins: Whether etcd will be told to join them.

    Raises:
        SystemExit: It is lost, and etcd will not be told; or the others refuse.
    """
    mine = [member for member in known if url in member.peerURLs]
    # Each member says its name beforehand and its addresses for clients once it has started for the first time.
    if mine and mine[0].name and not mine[0].clientURLs:
        return "the cluster is new"
    if not joins:
        pod, key = os.environ["POD_NAME"], "bookmesh/initial-cluster-state"
        sys.exit(f"this member has lost its data; to let it join again: kubectl annotate pod {pod} {key}=existing")
    if mine and mine[0].clientURLs:
        agreed(cluster.MemberRemove, etcdrpc.MemberRemoveRequest(ID=mine[0].ID))
        mine = []
    if not mine:
        agreed(cluster.MemberAdd, etcdrpc.MemberAddRequest(peerURLs=[url]))
    return "it lost its data, and joins the others anew"


def agreed(change: Any, request: Any) -> None:
    """Ask for a change of the members until they agree.

    Raises:
        SystemExit: They do not.
    """
    give_up = time.monotonic() + AGREED
    while True:
        try:
            change(request, timeout=PATIENCE)
        except grpc.RpcError as error:
            if time.monotonic() > give_up:
                sys.exit(f"the other members refuse: {error.details()}")
            time.sleep(1)
        else:
            return


def main(data: str, url: str, endpoints: str) -> None:
    """Say what was found, and what was done.

    Args:
        data: The folder of this member's data.
        url: Of this member, for the others.
        endpoints: `host:port` of each member, a comma list; this one's is passed over.
    """
    if (Path(data) / "member/wal").exists():
        print("its data is there")
        return
    joins = os.environ.get("ETCD_INITIAL_CLUSTER_STATE") == "existing"
    others = [
        endpoint for endpoint in endpoints.split(",") if urlsplit(f"//{endpoint}").hostname != urlsplit(url).hostname
    ]
    for channel in channels(others):
        cluster = etcdrpc.ClusterStub(channel)
        if known := members(cluster):
            print(rejoin(cluster, known, url, joins=joins))
            return
    print("no other member answers: the cluster is new")


if __name__ == "__main__":
    main(*sys.argv[1:])
