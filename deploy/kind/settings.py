"""What the user chooses, by variables: CLUSTER, ZIPKIN_PORT, IMAGES, NODE and IP_FAMILY."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import yaml

from deploy.kind.errors import KindError

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/bookmesh"
LOGS = ROOT / ".run/kind"

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
"""What kind takes as a cluster's name."""


@dataclass(frozen=True)
class Settings:
    """The choices for one cluster.

    Args:
        cluster: its name; kubectl's context is `kind-<cluster>`.
        zipkin_port: the port on 127.0.0.1 that leads to NodePort 30411; 0: any free one.
        images: `registry`: pull; `source`: make from package registries; empty: pull if Docker Hub answers.
        node: the node image, where images are pulled; empty: kind's own.
        ip_family: `ipv4` or `ipv6`, of nodes, pods and Services alike.
    """

    cluster: str = "bookmesh"
    zipkin_port: int = 9411
    images: str = ""
    node: str = ""
    ip_family: str = "ipv4"

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """Read them out of environment variables; an empty one counts as none.

        Raises:
            KindError: a value cannot be used.
        """
        cluster = environment.get("CLUSTER") or cls.cluster
        if not _NAME.fullmatch(cluster):
            raise KindError(f"CLUSTER is {cluster!r}: expected lower-case letters, digits, dots and dashes")
        port = environment.get("ZIPKIN_PORT") or str(cls.zipkin_port)
        if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
            raise KindError(f"ZIPKIN_PORT is {port!r}: expected a port, or 0 for any")
        images = environment.get("IMAGES", "")
        if images not in ("", "registry", "source"):
            raise KindError(f"IMAGES is {images!r}: expected registry or source")
        family = environment.get("IP_FAMILY") or cls.ip_family
        if family not in ("ipv4", "ipv6"):
            raise KindError(f"IP_FAMILY is {family!r}: expected ipv4 or ipv6")
        return cls(cluster, int(port), images, environment.get("NODE", ""), family)


def program_images() -> list[str]:
    """Name the images of book-server and book-client, as the chart does."""
    version = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))["appVersion"]
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    return [f"{values[program]['image']['repository']}:{version}" for program in ("server", "client")]
