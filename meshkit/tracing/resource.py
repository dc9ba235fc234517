"""What spans tell of the program that made them: OpenTelemetry's resource.

Source: OpenTelemetry semantic conventions, `docs/resource/README.md` and `docs/resource/k8s`.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import uuid4

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.version import __version__ as sdk_version

__all__ = ["SERVICE_NAME", "resource_of", "tags_of"]

SERVICE_NAME = "service.name"
SERVICE_VERSION = "service.version"
SERVICE_INSTANCE_ID = "service.instance.id"
SDK = {
    "telemetry.sdk.language": "python",
    "telemetry.sdk.name": "opentelemetry",
    "telemetry.sdk.version": sdk_version,
}


def resource_of(
    service: str, *, version: str | None = None, name: str | None = None, attributes: Mapping[str, str] | None = None
) -> Resource:
    """The resource of one process.

    Args:
        service: the program's name for itself.
        version: of the program. Default: not told.
        name: what the operator calls the service, over all else (OTEL_SERVICE_NAME).
        attributes: what the operator says besides, over the program's own (OTEL_RESOURCE_ATTRIBUTES).
    """
    own = {SERVICE_NAME: service, SERVICE_INSTANCE_ID: str(uuid4())}
    if version is not None:
        own[SERVICE_VERSION] = version
    named = {SERVICE_NAME: name} if name else {}
    return Resource({**SDK, **own, **(attributes or {}), **named})


def tags_of(resource: Resource) -> dict[str, object]:
    """What of it Zipkin has no place for but tags: not the name, nor who made the SDK."""
    return {key: value for key, value in resource.attributes.items() if key != SERVICE_NAME and key not in SDK}
