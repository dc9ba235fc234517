"""Who is there: instances that register themselves in etcd, and those who follow them."""

from __future__ import annotations

from meshkit.discovery.instancer import InstanceChange, Instancer, Observer
from meshkit.discovery.registrar import Registrar

__all__ = ["InstanceChange", "Instancer", "Observer", "Registrar"]
