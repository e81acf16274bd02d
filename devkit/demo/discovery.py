"""Finds pods for Debian's Prometheus, which is built without its discovery of Kubernetes objects.

`python -m devkit.demo.discovery KUBECONFIG PORT` answers Prometheus' HTTP service discovery on loopback. Targets and
labels are those of `kubernetes_sd_configs` with the role pod. Sources: Prometheus, "Writing HTTP Service Discovery",
and discovery/kubernetes/pod.go.
"""

import base64
import ipaddress
import json
import re
import ssl
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import yaml

POD: Final = "__meta_kubernetes_pod_"
_PATH: Final = "/pods"
_TIMEOUT: Final = 5.0
"""In seconds, for the API server."""

Pod = Mapping[str, Any]


def url(port: int, namespaces: Sequence[str] = ()) -> str:
    """Return the URL of the targets in these namespaces; none: in all."""
    query = urllib.parse.urlencode([("namespace", namespace) for namespace in namespaces])
    return f"http://127.0.0.1:{port}{_PATH}" + (f"?{query}" if query else "")


def sanitized(name: str) -> str:
    """Return the name of a Kubernetes label or annotation as part of a label of Prometheus."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)


def targets(pods: Iterable[Pod], namespaces: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return a target with labels for each port of each container; a container without ports is one target too."""
    found: list[dict[str, Any]] = []
    for pod in pods:
        address = pod["status"].get("podIP", "")
        if not address or (namespaces and pod["metadata"]["namespace"] not in namespaces):
            continue
        common = _labels(pod)
        for container, initial in _containers(pod["spec"]):
            own = common | {f"{POD}container_name": container["name"], f"{POD}container_image": container["image"]}
            own[f"{POD}container_init"] = str(initial).lower()
            for port in container.get("ports") or [None]:
                labels = own | (_port_labels(port) if port else {})
                found.append({"targets": [_host_and_port(address, port)], "labels": labels})
    return found


def _containers(spec: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], bool]]:
    """Return all containers, and whether each is an init container."""
    plain, initial = spec.get("containers", []), spec.get("initContainers", [])
    return [(one, False) for one in plain] + [(one, True) for one in initial]


def _labels(pod: Pod) -> dict[str, str]:
    metadata, status = pod["metadata"], pod["status"]
    ready = {one["type"]: one["status"].lower() for one in status.get("conditions", [])}
    labels = {
        "__meta_kubernetes_namespace": metadata["namespace"],
        f"{POD}name": metadata["name"],
        f"{POD}uid": metadata["uid"],
        f"{POD}ip": status["podIP"],
        f"{POD}host_ip": status.get("hostIP", ""),
        f"{POD}node_name": pod["spec"].get("nodeName", ""),
        f"{POD}phase": status.get("phase", ""),
        f"{POD}ready": ready.get("Ready", "unknown"),
    }
    for owner in metadata.get("ownerReferences", []):
        if owner.get("controller"):
            labels |= {f"{POD}controller_kind": owner["kind"], f"{POD}controller_name": owner["name"]}
    for kind, values in (("label", metadata.get("labels", {})), ("annotation", metadata.get("annotations", {}))):
        for name, value in values.items():
            labels[f"{POD}{kind}_{sanitized(name)}"] = value
            labels[f"{POD}{kind}present_{sanitized(name)}"] = "true"
    return labels


def _port_labels(port: Mapping[str, Any]) -> dict[str, str]:
    return {
        f"{POD}container_port_name": port.get("name", ""),
        f"{POD}container_port_number": str(port["containerPort"]),
        f"{POD}container_port_protocol": port.get("protocol", "TCP"),
    }


def _host_and_port(address: str, port: Mapping[str, Any] | None) -> str:
    host = f"[{address}]" if port and ipaddress.ip_address(address).version == 6 else address
    return f"{host}:{port['containerPort']}" if port else host


class PodReader:
    """Lists the pods of all namespaces with the token of a kubeconfig."""

    def __init__(self, kubeconfig: Mapping[str, Any]) -> None:
        (cluster,), (user,) = kubeconfig["clusters"], kubeconfig["users"]
        authority = base64.b64decode(cluster["cluster"]["certificate-authority-data"]).decode()
        self._context = ssl.create_default_context(cadata=authority)
        headers = {"Authorization": f"Bearer {user['user']['token']}"}
        self._request = urllib.request.Request(f"{cluster['cluster']['server']}/api/v1/pods", headers=headers)

    def __call__(self) -> list[Pod]:
        with urllib.request.urlopen(self._request, timeout=_TIMEOUT, context=self._context) as answer:
            pods: list[Pod] = json.load(answer)["items"]
        return pods


class Server(ThreadingHTTPServer):
    """Answers with the current targets, or with 503 while the API server does not answer: Prometheus keeps the last."""

    def __init__(self, port: int, read: Callable[[], list[Pod]]) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.read = read


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = urllib.parse.urlsplit(self.path)
        if wanted.path != _PATH:
            self.send_error(404)
            return
        try:
            pods = self.server.read()
        except (OSError, ValueError) as error:
            self.send_error(503, explain=f"pods could not be listed: {error}")
            return
        body = json.dumps(targets(pods, urllib.parse.parse_qs(wanted.query).get("namespace", []))).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log only errors: Prometheus asks every few seconds."""


def main() -> None:
    """Serve until the process is stopped."""
    kubeconfig, port = sys.argv[1:]
    with Server(int(port), PodReader(yaml.safe_load(Path(kubeconfig).read_text()))) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
