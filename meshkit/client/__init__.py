"""A call on its way out, top to bottom: retry, balancer, endpointer, instance, channel."""

from __future__ import annotations

from meshkit.client.balancer import Balancer, EndpointSource, Random, RoundRobin
from meshkit.client.budget import RetryBudget
from meshkit.client.call_error import CallError
from meshkit.client.channel import channel_factory, instance_channel
from meshkit.client.deadline_channel import DeadlineChannel
from meshkit.client.ejection import EJECTION, instance_breaker
from meshkit.client.endpointer import Endpointer, InstanceSource
from meshkit.client.instance import Connection, Factory, InstanceEndpoint
from meshkit.client.least import LeastRequest, PeakEwma
from meshkit.client.mesh_channel import MeshChannel
from meshkit.client.retry import Retry
from meshkit.client.spans import TracedChannel, TracingClientInterceptor

__all__ = [
    "EJECTION",
    "Balancer",
    "CallError",
    "Connection",
    "DeadlineChannel",
    "EndpointSource",
    "Endpointer",
    "Factory",
    "InstanceEndpoint",
    "InstanceSource",
    "LeastRequest",
    "MeshChannel",
    "PeakEwma",
    "Random",
    "Retry",
    "RetryBudget",
    "RoundRobin",
    "TracedChannel",
    "TracingClientInterceptor",
    "channel_factory",
    "instance_breaker",
    "instance_channel",
]
