"""Conversion of Kubernetes' documents to observations."""

from typing import Any

import pytest

from controller.cluster.observe import children_selector, config_map_of, observe_deployment, observe_object, observe_pod
from controller.observation import ObservedObject, ReplicasWriter
from controller.policy.podannotations import DELETION_COST
from kube.kinds import AVATAR_AGENT, POD, TOKEN_REVIEW


def document(**status: Any) -> dict[str, Any]:
    volumes = [{"name": "tmp", "emptyDir": {}}, {"name": "config", "configMap": {"name": "ava-worker-1"}}]
    metadata = {"name": "pod-1", "creationTimestamp": "2026-01-05T00:00:01Z"}
    return {"metadata": metadata, "spec": {"volumes": volumes}, "status": status}


def waiting(reason: str, message: str = "", **container: Any) -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}, **container}


def test_running_pod_is_observed() -> None:
    seen = observe_pod(
        document(
            phase="Running",
            podIP="10.0.0.1",
            conditions=[{"type": "Ready", "status": "True"}],
            containerStatuses=[{"state": {"running": {}}}],
        )
    )
    assert (seen.name, seen.ip, seen.running, seen.ready, seen.terminating) == ("pod-1", "10.0.0.1", True, True, False)
    assert (seen.start_failure, seen.config_map, seen.annotations) == ("", "ava-worker-1", {})
    assert seen.created == 1767571201, "seconds of Unix time"


def written(manager: str, *, time: str, subresource: str = "", fields: str = "f:replicas") -> dict[str, Any]:
    """A managed-fields entry for one field of a spec."""
    part = {"manager": manager, "time": time, "fieldsV1": {"f:spec": {fields: {}}}}
    return {**part, "subresource": subresource} if subresource else part


OWN = written("avatar-agent-controller", time="2026-01-05T00:00:09Z")
SCALED = written("kubectl", time="2026-01-05T00:00:02Z", subresource="scale")
EDITED = written("kubectl-edit", time="2026-01-05T00:00:01Z")


@pytest.mark.parametrize(
    ("fields", "writer"),
    [
        pytest.param([], None, id="no managed fields"),
        pytest.param([OWN], None, id="the controller alone"),
        pytest.param([OWN, written("helm", time="2026-01-05T00:00:03Z", fields="f:paused")], None, id="another field"),
        pytest.param([SCALED], ReplicasWriter("kubectl", True, "2026-01-05T00:00:02Z", 3), id="scaled"),
        pytest.param([OWN, EDITED], ReplicasWriter("kubectl-edit", False, "2026-01-05T00:00:01Z", 3), id="edited"),
        pytest.param(
            [SCALED, OWN, EDITED], ReplicasWriter("kubectl", True, "2026-01-05T00:00:02Z", 3), id="the last of two"
        ),
    ],
)
def test_other_writer_of_replicas_is_observed(fields: list[dict[str, Any]], writer: ReplicasWriter | None) -> None:
    metadata = {"namespace": "shop", "name": "ava-worker", "uid": "uid-1", "managedFields": fields}
    seen = observe_deployment({"metadata": metadata, "spec": {"replicas": 3, "template": {"metadata": {}}}})
    assert seen.replicas_writer == writer


def test_terminating_pod_is_observed() -> None:
    leaving = document(phase="Running")
    leaving["metadata"] |= {
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "annotations": {DELETION_COST: "2", "cluster-autoscaler.kubernetes.io/safe-to-evict": "true", "other": "1"},
    }
    seen = observe_pod(leaving)
    assert seen.terminating
    assert seen.annotations == {DELETION_COST: "2", "cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        pytest.param({}, "", id="a new pod"),
        pytest.param({"containerStatuses": [waiting("ContainerCreating")]}, "", id="a container being created"),
        pytest.param(
            {"containerStatuses": [waiting("ImagePullBackOff", "no such image")]},
            "ImagePullBackOff: no such image",
            id="a missing image",
        ),
        pytest.param(
            {
                "containerStatuses": [
                    waiting(
                        "CrashLoopBackOff",
                        "back-off 20s",
                        lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
                    )
                ]
            },
            "CrashLoopBackOff: back-off 20s (last exit code 137, OOMKilled)",
            id="a crash loop, with the last exit code",
        ),
        pytest.param(
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3"}]},
            "Unschedulable: 0/3",
            id="no node with room",
        ),
    ],
)
def test_start_failure_of_a_pod(status: dict[str, Any], failure: str) -> None:
    assert observe_pod(document(**status)).start_failure == failure


@pytest.mark.parametrize(
    ("phase", "running", "ended"),
    [("Pending", False, False), ("Running", True, False), ("Succeeded", False, True), ("Failed", False, True)],
)
def test_phases_of_a_pod(phase: str, running: bool, ended: bool) -> None:
    seen = observe_pod(document(phase=phase))
    assert (seen.running, seen.ended) == (running, ended)


def test_pod_has_its_template_and_config_map() -> None:
    made = document()
    made["metadata"]["annotations"] = {"avataragents.io/template": "0123456789ab"}
    seen = observe_pod(made)
    assert (seen.template, seen.config_map) == ("0123456789ab", "ava-worker-1")
    assert config_map_of({}) == "", "a pod of another owner"


def child(**metadata: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "shop", "name": "ava-worker", "uid": "uid-7", **metadata}}


def test_child_without_optional_metadata() -> None:
    assert observe_object(child()) == ObservedObject("shop", "ava-worker", "uid-7", 0, {}, ())


def test_child_has_owners_labels_and_generation() -> None:
    reference = {"apiVersion": "avataragents.io/v1alpha1", "kind": "AvatarAgent", "name": "ava", "uid": "uid-1"}
    seen = observe_object(child(generation=3, labels={"a": "b"}, ownerReferences=[reference]))
    assert (seen.generation, seen.labels, seen.owners) == (3, {"a": "b"}, (("AvatarAgent", "ava", "uid-1"),))


def test_service_account_has_content_instead_of_a_generation() -> None:
    accounts = [child() | {"automountServiceAccountToken": token} for token in (True, False)]
    assert observe_object(accounts[0]).content != observe_object(accounts[1]).content


def workers(**status: Any) -> dict[str, Any]:
    annotations = {"avataragents.io/template": "0123456789ab"}
    template = {"metadata": {"annotations": annotations}, "spec": {}}
    return child(generation=1) | {"spec": {"replicas": 2, "template": template}, "status": status}


def test_deployment_has_replicas_and_template() -> None:
    seen = observe_deployment(workers())
    assert (seen.replicas, seen.template, seen.create_failure, seen.object.uid) == (2, "0123456789ab", "", "uid-7")


def test_foreign_deployment_can_be_observed() -> None:
    made = child() | {"spec": {"replicas": 1, "template": {"metadata": {}, "spec": {}}}}
    assert observe_deployment(made).template == ""


def test_create_failure_of_a_deployment() -> None:
    failing = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}
    assert observe_deployment(workers(conditions=[failing])).create_failure == "FailedCreate: exceeded quota"
    assert observe_deployment(workers(conditions=[{**failing, "status": "False"}])).create_failure == ""


def test_children_are_selected_by_agent() -> None:
    assert children_selector("ava") == (
        "app.kubernetes.io/managed-by=avatar-agent,app.kubernetes.io/component=worker,avataragents.io/agent=ava"
    )


def test_api_paths() -> None:
    assert POD.path("shop", "pod-1", "status") == "/api/v1/namespaces/shop/pods/pod-1/status"
    assert AVATAR_AGENT.path(None) == "/apis/avataragents.io/v1alpha1/avataragents"
    assert TOKEN_REVIEW.path() == "/apis/authentication.k8s.io/v1/tokenreviews"
    assert POD.path("a/b", "../secrets") == "/api/v1/namespaces/a%2Fb/pods/..%2Fsecrets"
