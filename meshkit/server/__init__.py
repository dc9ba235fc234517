"""A call on its way in: the server's life, and what wraps the handlers of its services."""

from __future__ import annotations

from meshkit.server.callers import CallerInterceptor
from meshkit.server.departure import leaving
from meshkit.server.handlers import HandlerInterceptor
from meshkit.server.health import HealthServicer
from meshkit.server.interceptor import MiddlewareInterceptor
from meshkit.server.serving import serve
from meshkit.server.spans import TracingServerInterceptor

__all__ = [
    "CallerInterceptor",
    "HandlerInterceptor",
    "HealthServicer",
    "MiddlewareInterceptor",
    "TracingServerInterceptor",
    "leaving",
    "serve",
]
