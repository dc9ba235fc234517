"""etcd, seen through a narrow port: what the mesh needs of it and no more."""

from __future__ import annotations

from meshkit.etcd.client import EtcdClient, EtcdLogin
from meshkit.etcd.port import Etcd, Event, KeyValue, Lease, Listing, WatchBatch

__all__ = ["Etcd", "EtcdClient", "EtcdLogin", "Event", "KeyValue", "Lease", "Listing", "WatchBatch"]
