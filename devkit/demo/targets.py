"""Which LiveKit and which providers the demo uses: real ones whose keys are in the environment, simulated ones else."""

import secrets
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping

from devkit.cluster import Cluster
from devkit.demo.manifests import Targets
from devkit.errors import DevkitError
from devkit.paths import REPOSITORY, state_dir

OPENAI_PORT = 9100
TAVUS_PORT = 9200
_START_SECONDS = 60.0


def external_targets(environment: Mapping[str, str]) -> Targets:
    """Everything from the environment, for a cluster that cannot reach this machine's simulated providers."""
    needed = ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "OPENAI_API_KEY", "TAVUS_API_KEY")
    if missing := [name for name in needed if not environment.get(name)]:
        raise DevkitError(f"with a kubeconfig of your own the demo needs {', '.join(missing)} in the environment")
    return Targets(
        livekit_url=environment["LIVEKIT_URL"],
        livekit_key=environment["LIVEKIT_API_KEY"],
        livekit_secret=environment["LIVEKIT_API_SECRET"],
        openai_url=environment.get("OPENAI_BASE_URL", ""),
        openai_key=environment["OPENAI_API_KEY"],
        tavus_url=environment.get("TAVUS_BASE_URL", ""),
        tavus_key=environment["TAVUS_API_KEY"],
    )


def needs_internet(environment: Mapping[str, str]) -> bool:
    """Whether a real provider or LiveKit is to be reached from the local cluster, which has no way out otherwise."""
    return any(environment.get(name) for name in ("OPENAI_API_KEY", "TAVUS_API_KEY", "LIVEKIT_URL"))


def local_targets(cluster: Cluster, environment: Mapping[str, str]) -> Targets:
    """The instance's LiveKit and simulated providers, each replaced by the real one whose key is given."""
    openai, tavus = environment.get("OPENAI_API_KEY", ""), environment.get("TAVUS_API_KEY", "")
    cloud = environment.get("LIVEKIT_URL", "")
    return Targets(
        livekit_url=cloud or cluster.livekit_url,
        livekit_key=environment["LIVEKIT_API_KEY"] if cloud else cluster.livekit_api_key,
        livekit_secret=environment["LIVEKIT_API_SECRET"] if cloud else cluster.livekit_api_secret,
        openai_url=environment.get("OPENAI_BASE_URL", "") if openai else f"http://{cluster.node_ip}:{OPENAI_PORT}/v1",
        openai_key=openai or start_simulator(cluster, "openai", OPENAI_PORT),
        tavus_url=environment.get("TAVUS_BASE_URL", "") if tavus else f"http://{cluster.node_ip}:{TAVUS_PORT}/v2",
        tavus_key=tavus or start_simulator(cluster, "tavus", TAVUS_PORT),
    )


def start_simulator(cluster: Cluster, provider: str, port: int) -> str:
    """Run a simulated provider in the cluster's network, unless it runs; returns the key that it accepts."""
    key_file = state_dir() / cluster.name / f"{provider}.key"
    address = f"http://{cluster.node_ip}:{port}"
    if key_file.exists() and _answers(address):
        return key_file.read_text()
    key_file.touch(mode=0o600)
    key_file.write_text(f"simulated-{secrets.token_hex(16)}")
    module = f"devkit.providers.{provider}"
    arguments = ["--host", cluster.node_ip, "--port", str(port), "--api-key-file", str(key_file)]
    cluster.spawn(
        f"simulated-{provider}", [sys.executable, "-m", module, *arguments], env={"PYTHONPATH": str(REPOSITORY)}
    )
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(address):
        if time.monotonic() > deadline:
            raise DevkitError(f"the simulated {provider} does not answer: see `devkit logs simulated-{provider}`")
        time.sleep(0.2)
    return key_file.read_text()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/healthz", timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
