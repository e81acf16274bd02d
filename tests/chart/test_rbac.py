"""All rights of controller, gateway and teams equal the golden lists. Decide on a new right there."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rendering import Documents, Renderer

GOLDEN = Path(__file__).parent / "golden"
CASES = {"cluster-wide": [], "one-namespace": ["watchNamespace=agents"]}

AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"
"""Label that aggregates a ClusterRole. Source: Kubernetes, "RBAC authorization", "Aggregated ClusterRoles"."""

Rights = dict[str, dict[str, dict[str, list[str]]]]


def rights(documents: Documents) -> Rights:
    """Return the verbs by subject, by namespace (or the whole cluster), by resource."""
    roles = {
        place(document): document["rules"]
        for document in documents
        if document["kind"] in ("Role", "ClusterRole") and not aggregated_into(document)
    }
    found: Rights = {}
    for binding in documents:
        if binding["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        _, namespace, _ = place(binding)
        role = (binding["roleRef"]["kind"], namespace, binding["roleRef"]["name"])
        for subject in binding["subjects"]:
            account = f"{subject['kind']} {subject['namespace']}/{subject['name']}"
            where = found.setdefault(account, {}).setdefault(namespace or "the whole cluster", {})
            for rule in roles.pop(role):
                add(where, rule)
    assert not roles, "a role without a binding"
    return found


def aggregated_into(document: dict[str, Any]) -> set[str]:
    """Return Kubernetes' own roles that a ClusterRole is aggregated into."""
    labels = document["metadata"]["labels"]
    return {label.removeprefix(AGGREGATE) for label in labels if label.startswith(AGGREGATE)}


def place(document: dict[str, Any]) -> tuple[str, str, str]:
    """Return kind, namespace (empty when cluster-scoped) and name."""
    metadata = document["metadata"]
    return document["kind"], metadata.get("namespace", ""), metadata["name"]


def add(where: dict[str, list[str]], rule: dict[str, Any]) -> None:
    assert set(rule) <= {"apiGroups", "resources", "resourceNames", "verbs"}, "no rights on bare URLs"
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            named = ",".join(rule.get("resourceNames", []))
            what = f"{group or 'core'}/{resource}" + (f" {named}" if named else "")
            assert what not in where, f"{what} has two rules"
            where[what] = rule["verbs"]


@pytest.mark.parametrize(("case", "settings"), CASES.items(), ids=CASES)
def test_rights_equal_golden_list(render: Renderer, case: str, settings: list[str]) -> None:
    golden = yaml.safe_load((GOLDEN / f"rights-{case}.yaml").read_text())
    assert rights(render(*settings)) == golden


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_kubernetes_own_roles_may_see_and_declare_agents(render: Renderer, settings: list[str]) -> None:
    found: dict[str, dict[str, list[str]]] = {}
    for document in render(*settings):
        if document["kind"] != "ClusterRole" or not (roles := aggregated_into(document)):
            continue
        for rule in document["rules"]:
            add(found.setdefault({3: "view", 2: "edit"}[len(roles)], {}), rule)
        assert roles in ({"view", "edit", "admin"}, {"edit", "admin"}), "a higher role includes the lower ones"
        assert document["metadata"]["name"].startswith("system:test-"), "releases do not share the role"
    assert found == yaml.safe_load((GOLDEN / "rights-of-teams.yaml").read_text())


@pytest.mark.parametrize("case", CASES)
def test_no_right_leads_to_other_rights(case: str) -> None:
    golden: Rights = yaml.safe_load((GOLDEN / f"rights-{case}.yaml").read_text())
    for places in golden.values():
        for where in places.values():
            for what, verbs in where.items():
                assert "*" not in what
                assert not {"*", "escalate", "bind", "impersonate", "deletecollection"} & set(verbs)
                assert "rbac.authorization.k8s.io" not in what
                assert not what.startswith("core/secrets") or verbs == ["get"], "Secrets are read by name only"


def test_watched_namespace_leaves_only_token_review_outside(render: Renderer) -> None:
    controller = rights(render("watchNamespace=agents"))["ServiceAccount system/test-controller"]
    assert set(controller) == {"agents", "system", "the whole cluster"}
    assert controller["the whole cluster"] == {"authentication.k8s.io/tokenreviews": ["create"]}


def test_pods_run_with_accounts_of_the_release(render: Renderer) -> None:
    documents = render()
    accounts = {place(d)[1:] for d in documents if d["kind"] == "ServiceAccount"}
    for document in documents:
        if document["kind"] == "Deployment":
            pod = document["spec"]["template"]["spec"]
            assert (document["metadata"]["namespace"], pod["serviceAccountName"]) in accounts


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_releases_of_one_name_share_only_the_crd(render: Renderer, settings: list[str]) -> None:
    def wide(namespace: str) -> set[tuple[str, str]]:
        documents = render(f"--namespace={namespace}", *settings)
        return {(kind, name) for kind, place_of, name in map(place, documents) if not place_of}

    here, there = wide("here"), wide("there")
    assert {kind for kind, _ in here} == {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
    assert {kind for kind, _ in here & there} == {"CustomResourceDefinition"}
