"""The admin port: metrics, health, and the live page of a program, by HTTP."""

from __future__ import annotations

from meshkit.admin.actions import Action, forwarded
from meshkit.admin.server import Admin, admin_port

__all__ = ["Action", "Admin", "admin_port", "forwarded"]
