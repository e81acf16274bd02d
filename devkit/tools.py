"""The platform's programs that are built from source, with version and Go module."""

from dataclasses import dataclass
from pathlib import Path

from devkit.paths import MODULES

KUBERNETES_VERSION = "1.37.2"
_VERSION_PACKAGE = "k8s.io/component-base/version"


@dataclass(frozen=True)
class Tool:
    """Binaries from one Go module. Each tool has its own module, because their dependencies conflict."""

    name: str
    version: str
    packages: dict[str, str]
    """Go package of each binary."""
    stamps: tuple[str, ...] = ()
    """`-X` arguments of the linker, for programs that get their version from it."""
    version_arguments: tuple[str, ...] = ("--version",)

    @property
    def module(self) -> Path:
        return MODULES / self.name

    @property
    def linker_flags(self) -> str:
        return " ".join(["-s", "-w", *(f"-X {stamp}" for stamp in self.stamps)])


KUBERNETES = Tool(
    "kubernetes",
    KUBERNETES_VERSION,
    {
        binary: f"k8s.io/kubernetes/cmd/{binary}"
        for binary in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
    },
    stamps=(
        f"{_VERSION_PACKAGE}.gitVersion=v{KUBERNETES_VERSION}",
        f"{_VERSION_PACKAGE}.gitMajor={KUBERNETES_VERSION.split('.')[0]}",
        f"{_VERSION_PACKAGE}.gitMinor={KUBERNETES_VERSION.split('.')[1]}",
    ),
)
LIVEKIT = Tool("livekit-server", "1.13.5", {"livekit-server": "github.com/livekit/livekit-server/cmd/server"})
ETCD = Tool("etcd", "3.7.3", {"etcd": "go.etcd.io/etcd/server/v3"})
COREDNS = Tool("coredns", "1.14.3", {"coredns": "github.com/coredns/coredns"}, version_arguments=("-version",))
HELM = Tool(
    "helm",
    "4.3.1",
    {"helm": "helm.sh/helm/v4/cmd/helm"},
    stamps=("helm.sh/helm/v4/internal/version.version=v4.3.1",),
    version_arguments=("version", "--short"),
)
KWOK = Tool("kwok", "0.8.0", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"})
VALE = Tool("vale", "3.21.0", {"vale": "github.com/vale-cli/vale/v3/cmd/vale"}, stamps=("main.version=3.21.0",))
# Small ones first, so that failures show early.
TOOLS = (ETCD, HELM, COREDNS, LIVEKIT, KUBERNETES)
# Programs of an instance without a node.
API_TOOLS = (ETCD, HELM, KUBERNETES)
# Programs that only the benchmarks run: simulated nodes.
BENCH_TOOLS = (KWOK,)
# Linters of `make check`: for the chart and for prose.
CHECK_TOOLS = (HELM, VALE)
