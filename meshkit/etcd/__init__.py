"""etcd, seen through a narrow port: what the mesh needs of it and no more."""

from __future__ import annotations

from meshkit.etcd.api import Etcd, Event, KeyValue, Lease, Listing, WatchBatch
from meshkit.etcd.client import EtcdClient
from meshkit.etcd.login import EtcdLogin

__all__ = ["Etcd", "EtcdClient", "EtcdLogin", "Event", "KeyValue", "Lease", "Listing", "WatchBatch"]
