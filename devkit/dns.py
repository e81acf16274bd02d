"""Cluster DNS: CoreDNS as a process on the node, behind the Service kube-dns."""

from pathlib import Path

from devkit import internet, probe
from devkit.binaries import Binaries
from devkit.instance import Layout, Record
from devkit.kubernetes import ControlPlane, Kubectl
from devkit.network import netns_name

# 53 would work in the namespace too; another port shows that the Service maps it.
_PORT = 10053
_READY_PORT = 8181
_START_TIMEOUT = 30.0
_USER = "devkit:coredns"


def corefile(record: Record, kubeconfig: Path) -> str:
    """Configure CoreDNS: it answers cluster names from the API server, and other names from the internet, if any."""
    node = record.subnets.node
    elsewhere = (
        f"forward . {internet.resolver(record)}"
        if record.internet
        else "template ANY ANY {\n        rcode NXDOMAIN\n    }"
    )
    return f"""cluster.local:{_PORT} in-addr.arpa:{_PORT} {{
    bind {node}
    errors
    ready {node}:{_READY_PORT}
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {kubeconfig}
        pods insecure
        ttl 5
    }}
}}
.:{_PORT} {{
    bind {node}
    {elsewhere}
}}
"""


def objects(record: Record) -> list[dict[str, object]]:
    """Return CoreDNS' rights, and the Service whose endpoint is its process."""
    kind = "rbac.authorization.k8s.io"
    metadata = {"name": "kube-dns", "namespace": "kube-system"}
    ports = [("dns", "UDP"), ("dns-tcp", "TCP")]
    return [
        {
            "apiVersion": f"{kind}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "devkit-coredns"},
            "roleRef": {"apiGroup": kind, "kind": "ClusterRole", "name": "devkit-coredns"},
            "subjects": [{"apiGroup": kind, "kind": "User", "name": _USER}],
        },
        {
            "apiVersion": f"{kind}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "devkit-coredns"},
            "rules": [
                {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
            ],
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {
                "clusterIP": str(record.subnets.dns),
                "ports": [{"name": name, "port": 53, "protocol": protocol} for name, protocol in ports],
            },
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**metadata, "labels": {"kubernetes.io/service-name": "kube-dns"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [str(record.subnets.node)]}],
            "ports": [{"name": name, "port": _PORT, "protocol": protocol} for name, protocol in ports],
        },
    ]


def start(layout: Layout, record: Record, binaries: Binaries, plane: ControlPlane) -> None:
    """Start CoreDNS behind its Service, and return when it has read the cluster's names."""
    Kubectl(layout.kubeconfig).apply(*objects(record))
    config = plane.kubeconfig("coredns", plane.authority.client(_USER))
    path = layout.config / "Corefile"
    path.write_text(corefile(record, config))
    table = layout.processes
    process = table.start("coredns", [binaries["coredns"], "-conf", str(path)], netns=netns_name(record.name))
    ready = f"http://{record.subnets.node}:{_READY_PORT}/ready"
    table.wait("cluster DNS", lambda: probe.answers(ready), _START_TIMEOUT, process)
