"""The chart extends Kubernetes' own roles, so that their users can read and declare agents in their namespaces."""

import asyncio
import subprocess
from collections.abc import Iterator
from functools import partial

import pytest
import yaml

from devkit.cluster import Cluster
from tests.cluster.instance import controller_rights, kubectl
from tests.waiting import eventually

TEAM, OTHERS = "team", "others"
RELEASE = "teams"


@pytest.fixture
def people(cluster: Cluster) -> Iterator[None]:
    """Create the chart's rights, two namespaces, and in one of them a user for each role, named after it."""
    kubectl(cluster, "apply", "-f", "-", stdin=yaml.safe_dump_all(controller_rights(cluster, name=RELEASE)))
    for namespace in (TEAM, OTHERS):
        kubectl(cluster, "create", "namespace", namespace)
    for role in ("view", "edit", "admin"):
        kubectl(cluster, "-n", TEAM, "create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}")
    yield
    kubectl(cluster, "delete", "namespace", TEAM, OTHERS, "--wait=false")
    label = f"app.kubernetes.io/instance={RELEASE}"
    kubectl(cluster, "delete", "clusterrole,clusterrolebinding", "-l", label)


def may(cluster: Cluster, person: str, verb: str, namespace: str = TEAM, subresource: str = "") -> bool:
    what = ["avataragents.avataragents.io", f"--subresource={subresource}"]
    question = ["auth", "can-i", verb, *what, "-n", namespace, f"--as={person}"]
    try:
        return kubectl(cluster, *question).strip() == "yes"
    except subprocess.CalledProcessError as answer:
        assert answer.stdout.strip() == "no", answer.stderr
        return False


async def test_view_role_reads_agents_and_edit_and_admin_declare_them(cluster: Cluster, people: None) -> None:
    for person, verb in (("view", "list"), ("edit", "create"), ("admin", "create")):
        # Kubernetes adds the rules to its roles in its own time.
        await eventually(partial(asyncio.to_thread, may, cluster, person, verb), f"{person} may {verb}")
    for person in ("edit", "admin"):
        assert all(may(cluster, person, verb) for verb in ("get", "list", "watch", "update", "patch", "delete"))
        assert may(cluster, person, "patch", subresource="scale")
        assert not may(cluster, person, "patch", subresource="status"), "the status is the controller's"
        assert not may(cluster, person, "create", OTHERS)
    assert not any(may(cluster, "view", verb) for verb in ("create", "update", "patch", "delete"))
    assert not may(cluster, "stranger", "list")
