"""Which cluster the members of etcd belong to: every answer names it, and that of another one is of no use."""

from __future__ import annotations

import structlog

from meshkit.backoff import Outage

__all__ = ["Cluster"]

log = structlog.stdlib.get_logger(__name__)

# With one endpoint: connections in a row that lead to another cluster before that one is taken for ours. The name may
# stand for several members, one of which was set up wrongly.
CONNECTIONS = 3


class Cluster:
    """The id of the cluster that is followed: that of the first member to answer, unless most of them name another.

    A member that started without its data, under another token or in another place, is a cluster of its own, with keys
    of its own. After a restore from a backup all members name a new id, which is then followed.

    Args:
        members: the number of endpoints.
    """

    def __init__(self, members: int) -> None:
        self.id = 0
        self._members = members
        # What each endpoint has named last.
        self._named: dict[int, int] = {}
        self._strange_connections = 0
        self._strangers = Outage()

    def named(self, member: int, endpoint: str, cluster: int, *, first: bool) -> bool:
        """Note which cluster an answer names; return whether that is the one to follow.

        Args:
            member: position of the endpoint.
            endpoint: `host:port`, for the log.
            cluster: the id; 0 names none, as what only speaks etcd's protocol may do.
            first: whether it is the first answer on its connection.
        """
        if not cluster:
            return True
        self._named[member] = cluster
        self.id = self.id or cluster
        if cluster == self.id:
            self._strange_connections = 0
            return True
        self._strange_connections += first
        follow = self._is_agreed_on(cluster)
        if self._strangers.failed(f"{endpoint} {follow}"):
            theirs, ours = f"{cluster:x}", f"{self.id:x}"
            if follow:
                log.warning("etcd is another cluster now", member=endpoint, cluster=theirs, before=ours)
            else:
                log.warning("etcd member of another cluster not used", member=endpoint, cluster=theirs, before=ours)
        if follow:
            self.id, self._strange_connections = cluster, 0
        return follow

    def is_odd(self, member: int) -> bool:
        """Whether an endpoint has named another cluster than the one that is followed."""
        return self._named.get(member, self.id) != self.id

    def _is_agreed_on(self, cluster: int) -> bool:
        if self._members == 1:
            return self._strange_connections >= CONNECTIONS
        return sum(named == cluster for named in self._named.values()) > self._members // 2
