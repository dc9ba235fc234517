"""As much of Kubernetes' API as Helm asks for when a chart looks up what is there already."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KINDS = {"v1": {"Secret": "secrets"}, "apps/v1": {"Deployment": "deployments", "StatefulSet": "statefulsets"}}


@contextmanager
def api_server(objects: list[dict[str, Any]], namespace: str) -> Iterator[str]:
    """Serve these objects as the only ones of a namespace; yields the URL for `helm --kube-apiserver`."""
    answers: dict[str, Any] = {
        "/version": {"major": "1", "minor": "35", "gitVersion": "v1.35.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group("apps")]},
    }
    for version, kinds in KINDS.items():
        root = f"/api/{version}" if version == "v1" else f"/apis/{version}"
        resources = [
            {"name": plural, "kind": kind, "namespaced": True, "verbs": ["get"]} for kind, plural in kinds.items()
        ]
        answers[root] = {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
        for manifest in objects:
            if manifest["apiVersion"] == version and manifest["kind"] in kinds:
                path = f"namespaces/{namespace}/{kinds[manifest['kind']]}/{manifest['metadata']['name']}"
                answers[f"{root}/{path}"] = manifest

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path.partition("?")[0])
            missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            body = json.dumps(answer or missing).encode()
            self.send_response(200 if answer else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def _group(name: str) -> dict[str, Any]:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}
