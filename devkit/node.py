"""The node: containerd, kubelet, kube-proxy and the pod network's configuration."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import yaml

from devkit import cgroups, network
from devkit.binaries import Binaries
from devkit.commands import run, succeeds
from devkit.errors import DevkitError
from devkit.instance import NodeLayout, Record
from devkit.kubernetes import ControlPlane, Kubectl
from devkit.processes import Process

PAUSE_IMAGE = "localhost/avatar-agent-pause:1"
# containerd's own namespace for Kubernetes.
CONTAINERD_NAMESPACE = "k8s.io"
_CONTAINERD_TIMEOUT = 30.0
_READY_TIMEOUT = 90.0
_CNI_PLUGINS = Path("/usr/lib/cni")


def start_containerd(node: NodeLayout, record: Record) -> Process:
    """Start containerd with the content of earlier runs, unless that contains containers too.

    `down` removes every container before it marks the content as clean. Content without the mark belongs to a killed
    run; its containers would appear in the new cluster.
    """
    clean = node.containerd_content / "clean"
    if not clean.exists() and node.containerd_content.exists():
        shutil.rmtree(node.containerd_content)
    node.containerd_content.mkdir(parents=True, exist_ok=True)
    clean.unlink(missing_ok=True)
    node.run.mkdir(parents=True, exist_ok=True, mode=0o711)
    node.cni.mkdir(parents=True, exist_ok=True)
    (node.cni / "10-pods.conflist").write_text(json.dumps(_cni(node, record), indent=2))
    name = node.suffixed("containerd")
    config = node.instance.config / f"{name}.toml"
    config.write_text(_containerd(node))
    table = node.instance.processes
    process = table.start(name, ["containerd", f"--config={config}"], netns=network.netns_name(node.name))
    table.wait("a container runtime", lambda: Ctr(node).answers(), _CONTAINERD_TIMEOUT, process)
    return process


def start(node: NodeLayout, record: Record, binaries: Binaries, plane: ControlPlane) -> None:
    """Start kubelet and kube-proxy on a running containerd and return when the node is Ready."""
    cgroups.create(node.name)
    netns, table = network.netns_name(node.name), node.instance.processes
    names = node.suffixed("kube-proxy"), node.suffixed("kubelet")
    proxy_config = plane.kubeconfig(names[0], plane.authority.client("system:kube-proxy"))
    user = plane.authority.client(f"system:node:{node.name}", "system:nodes")
    kubelet_config = plane.kubeconfig(names[1], user)
    proxy = table.start(names[0], _proxy(node, record, binaries, proxy_config), netns=netns)
    kubelet = table.start(names[1], _kubelet(node, record, binaries, plane, kubelet_config), netns=netns)
    table.wait("a Ready node", lambda: is_ready(node), _READY_TIMEOUT, kubelet, proxy)


def is_ready(node: NodeLayout) -> bool:
    """Whether Kubernetes considers the node ready."""
    ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    kubectl = Kubectl(node.instance.kubeconfig)
    return kubectl.get("node", node.name, "--ignore-not-found", f"--output={ready}") == "True"


def _cni(node: NodeLayout, record: Record) -> dict[str, object]:
    """Return the pod network's configuration: addresses above the node's, on the node's bridge."""
    subnets = record.subnets
    pod_range = {
        "subnet": str(subnets.node_pods(node.number)),
        "rangeStart": str(subnets.first_pod(node.number)),
        "gateway": str(subnets.node_address(node.number)),
    }
    bridge = {
        "type": "bridge",
        "bridge": network.POD_BRIDGE,
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(node.cni / "addresses"),
            "ranges": [[pod_range]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": network.netns_name(node.name), "plugins": [bridge, portmap]}


def _containerd(node: NodeLayout) -> str:
    """Return containerd's configuration: its own folders and socket, and pods' namespaces below /run for `down`.

    restrict_oom_score_adj: without CAP_SYS_RESOURCE, as in many virtual machines, runc may not lower the score.
    """
    return f"""version = 2
root = "{node.containerd_content}/root"
state = "{node.run}/containerd"

[grpc]
  address = "{node.containerd_socket}"

[ttrpc]
  address = "{node.containerd_socket}.ttrpc"

[plugins."io.containerd.internal.v1.opt"]
  path = "{node.run}/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{_CNI_PLUGINS}"
  conf_dir = "{node.cni}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
"""


def _kubelet(node: NodeLayout, record: Record, binaries: Binaries, plane: ControlPlane, kubeconfig: Path) -> list[str]:
    address = str(record.subnets.node_address(node.number))
    serving = plane.authority.server(node.suffixed("kubelet-serving"), [node.name, address])
    config = node.instance.config / f"{node.suffixed('kubelet')}.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "kubelet.config.k8s.io/v1beta1",
                "kind": "KubeletConfiguration",
                "containerRuntimeEndpoint": f"unix://{node.containerd_socket}",
                "authentication": {
                    "anonymous": {"enabled": False},
                    "webhook": {"enabled": True},
                    "x509": {"clientCAFile": str(plane.authority.files.certificate)},
                },
                "authorization": {"mode": "Webhook"},
                "tlsCertFile": str(serving.certificate),
                "tlsPrivateKeyFile": str(serving.key),
                "address": address,
                "healthzBindAddress": "127.0.0.1",
                "clusterDNS": [str(record.subnets.dns)],
                "clusterDomain": "cluster.local",
                "podLogsDir": str(node.pod_logs),
                # Debian 12 and many virtual machines still use cgroup v1.
                "failCgroupV1": False,
                "cgroupDriver": "cgroupfs",
                "cgroupRoot": cgroups.cgroup_root(node.name),
                "enforceNodeAllocatable": [],
                "failSwapOn": False,
                # A developer's disk is often nearly full; evicting pods would not help.
                "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
                # The node could not pull a collected image again.
                "imageGCHighThresholdPercent": 100,
                "maxPods": 200,
            }
        )
    )
    return [
        binaries["kubelet"],
        f"--config={config}",
        f"--kubeconfig={kubeconfig}",
        f"--root-dir={node.kubelet}",
        f"--cert-dir={node.kubelet}/pki",
        f"--hostname-override={node.name}",
        f"--node-ip={address}",
    ]


def _proxy(node: NodeLayout, record: Record, binaries: Binaries, kubeconfig: Path) -> list[str]:
    config = node.instance.config / f"{node.suffixed('kube-proxy')}.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
                "kind": "KubeProxyConfiguration",
                "clientConnection": {"kubeconfig": str(kubeconfig)},
                "mode": "iptables",
                "clusterCIDR": str(record.subnets.pods),
                "hostnameOverride": node.name,
                "healthzBindAddress": "127.0.0.1:10256",
                "metricsBindAddress": "127.0.0.1:10249",
                # Do not change the connection table's size: it applies to the whole machine.
                "conntrack": {"maxPerCore": 0, "min": 0},
            }
        )
    )
    return [binaries["kube-proxy"], f"--config={config}"]


class Ctr:
    """Runs containerd's client `ctr` on a node's socket."""

    def __init__(self, node: NodeLayout) -> None:
        self._base = ["ctr", f"--address={node.containerd_socket}", f"--namespace={CONTAINERD_NAMESPACE}"]

    def answers(self) -> bool:
        return succeeds([*self._base, "--connect-timeout=1s", "--timeout=2s", "version"], seconds=5)

    def images(self) -> dict[str, str]:
        """Return the references of all imported images, with their digests."""
        rows = [line.split() for line in run([*self._base, "images", "list"]).splitlines()[1:]]
        return {row[0]: row[2] for row in rows}

    def import_image(self, archive: Path) -> None:
        run([*self._base, "images", "import", str(archive)], seconds=600)

    def remove_images(self, images: Sequence[str]) -> None:
        run([*self._base, "images", "remove", *images])

    def remove_containers(self) -> None:
        """Remove every container; their processes have ended already."""
        for task in run([*self._base, "tasks", "list", "--quiet"]).split():
            # containerd may remove the task at the same moment; the check below finds containers that stay.
            succeeds([*self._base, "tasks", "delete", "--force", task])
        containers = run([*self._base, "containers", "list", "--quiet"]).split()
        if containers:
            succeeds([*self._base, "containers", "delete", *containers])
        left = run([*self._base, "containers", "list", "--quiet"]).split()
        if left:
            raise DevkitError(f"containerd did not remove the containers {left}")
