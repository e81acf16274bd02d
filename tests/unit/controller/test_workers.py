"""WorkersRegistered, and its messages."""

from collections.abc import Sequence
from typing import Any

import pytest

from agentspec import ConditionStatus, Reason
from agentspec.wire import StageFailure, StageReport, StageReports
from controller.observation import Key, ObservedDeployment, ObservedObject, ObservedWorker, StartWait
from controller.policy.scale import why_no_worker_starts
from controller.policy.snapshot import Instant, Snapshot
from controller.policy.startup import STUCK_SECONDS
from controller.policy.verdict import Verdict
from controller.policy.workers import workers_registered
from tests.unit.controller.builders import CREATED, spec, status, worker

TRUE, FALSE = ConditionStatus.TRUE, ConditionStatus.FALSE


_BROKEN = status(registered=False, code_failure="ValueError: x")


def judged(
    seen: Sequence[ObservedWorker], wanted: int, *, create_failure: str = "", blocked_until: str = "", **changes: Any
) -> Verdict:
    """The verdict on the workers of an agent without any other problem; `changes`: of its spec."""
    declared, key = spec(**changes), Key("shop", "ava")
    deployed = ObservedObject("shop", "ava-worker", "uid-1", 1, {}, ())
    snapshot = Snapshot(
        key,
        Instant(0.0, "2026-01-05T00:01:00Z", CREATED),
        spec=declared,
        deployment=ObservedDeployment(deployed, 1, "template-1", create_failure),
        workers=tuple(seen),
    )
    return workers_registered(snapshot, declared, wanted, blocked_until)


@pytest.mark.parametrize(
    ("seen", "wanted", "failure", "blocked_until", "expected", "text"),
    [
        pytest.param(
            [worker(report=status())], 1, "", "", (TRUE, Reason.REGISTERED), "1 of 1 workers registered as 'ava'."
        ),
        pytest.param(
            [worker(report=status()), worker("pod-2", start_failure="ErrImagePull: no such image")],
            2,
            "",
            "",
            (TRUE, Reason.PARTLY_REGISTERED),
            "as 'ava'. Workers cannot start: pod pod-2: ErrImagePull: no such image. Check spec.worker.image",
            id="one registered, and the failure of the other",
        ),
        pytest.param([], 0, "", "", (TRUE, Reason.NO_WORKERS_NEEDED), "the first waiting call", id="no worker needed"),
        pytest.param([], 1, "", "", (FALSE, Reason.WORKERS_STARTING), "none is registered yet", id="no pod yet"),
        pytest.param(
            [worker(report=status(calls=2), terminating=True), worker("pod-2", terminating=True)],
            0,
            "",
            "",
            (TRUE, Reason.DRAINING),
            "2 workers are draining.",
            id="no worker needed and some draining",
        ),
        pytest.param(
            [worker(report=status(calls=1))],
            0,
            "",
            "",
            (TRUE, Reason.DRAINING),
            "No worker is needed now; 1 worker is draining.",
            id="no worker needed and one still running",
        ),
        pytest.param(
            [worker(report=status()), worker("pod-2", report=status())],
            1,
            "",
            "",
            (TRUE, Reason.REGISTERED),
            "2 workers registered as 'ava' (1 needed).",
            id="more than needed",
        ),
        pytest.param(
            [worker(report=status())],
            1,
            "",
            "KnowledgeLoaded is true",
            (TRUE, Reason.REGISTERED),
            "1 of 1",
            id="blocked with running workers",
        ),
        pytest.param(
            [],
            1,
            "",
            "KnowledgeLoaded is true",
            (FALSE, Reason.ROLLOUT_BLOCKED),
            "No worker starts until KnowledgeLoaded is true.",
            id="blocked without workers",
        ),
        pytest.param(
            [worker(running=False)], 1, "", "", (FALSE, Reason.WORKERS_STARTING), "are starting", id="starting"
        ),
        pytest.param(
            [worker()], 1, "", "", (FALSE, Reason.WORKERS_STARTING), "none is registered yet", id="no report yet"
        ),
        pytest.param(
            [worker(report=status(registered=False))],
            1,
            "",
            "",
            (FALSE, Reason.NOT_REGISTERED),
            "kubectl logs pod-1 -n shop",
            id="running but unregistered, with the command",
        ),
        pytest.param(
            [worker(unregistered_seconds=31), worker("pod-2", ready=False)],
            1,
            "",
            "",
            (FALSE, Reason.WORKERS_LOST),
            "No worker takes calls. Lost workers take no calls, and others start within spec.scaling.maxWorkers: pod-1 "
            "on node node-1. ",
            id="lost, and another one starts",
        ),
        pytest.param(
            [worker(report=status()), worker("pod-2", unregistered_seconds=31)],
            1,
            "",
            "",
            (TRUE, Reason.PARTLY_REGISTERED),
            "kubectl get node node-1; kubectl describe pod pod-2 -n shop",
            id="one registered, and the other lost",
        ),
        pytest.param(
            [worker(report=status(agent_name="eva"))],
            1,
            "",
            "",
            (FALSE, Reason.NAME_MISMATCH),
            "should be registered as 'ava', but are registered otherwise: pod-1 as 'eva'",
            id="another name",
        ),
        pytest.param(
            [worker(report=status(agent_name=""))],
            1,
            "",
            "",
            (FALSE, Reason.NAME_MISMATCH),
            "pod-1 without a name (automatic dispatch)",
            id="no name",
        ),
        pytest.param(
            [worker(report=status(agent_name="eva")), worker("pod-2", report=status())],
            1,
            "",
            "",
            (TRUE, Reason.REGISTERED),
            "1 of 1",
            id="new workers of a renamed agent",
        ),
        pytest.param(
            [worker(start_failure="CrashLoopBackOff: back-off 10s (last exit code 1, Error)")],
            1,
            "",
            "",
            (FALSE, Reason.NOT_REGISTERED),
            "pod pod-1: CrashLoopBackOff: back-off 10s (last exit code 1, Error)",
            id="cannot start, with Kubernetes' message",
        ),
        pytest.param(
            [],
            1,
            "FailedCreate: exceeded quota",
            "",
            (FALSE, Reason.NOT_REGISTERED),
            "Workers cannot start: FailedCreate: exceeded quota",
            id="Deployment cannot create pods",
        ),
        pytest.param(
            [worker(report=status(), terminating=True)],
            1,
            "",
            "",
            (FALSE, Reason.WORKERS_STARTING),
            "none is registered yet",
            id="terminating worker does not count",
        ),
        pytest.param(
            [worker(report=status(registered=False, code_failure="ImportError: no\nmenu. (shop.py, line 3)"))],
            1,
            "",
            "",
            (FALSE, Reason.AGENT_CODE_FAILED),
            "The code of spec.worker.agent '' in the stock image cannot be used: ImportError: no menu. (shop.py, "
            "line 3). Correct the code and set its image in spec.worker.image, or correct spec.worker.agent. Workers "
            "with such code take no calls. The log has the whole traceback: kubectl logs pod-1 -n shop",
            id="broken code",
        ),
        pytest.param(
            [worker(report=status()), worker("pod-2", report=status(registered=False, code_failure="ValueError: x"))],
            1,
            "",
            "",
            (TRUE, Reason.PARTLY_REGISTERED),
            "as 'ava'. The code of spec.worker.agent",
            id="broken code beside an earlier worker",
        ),
        pytest.param(
            [worker(report=status()), worker("pod-2", report=_BROKEN, template="template-0")],
            1,
            "",
            "",
            (TRUE, Reason.REGISTERED),
            "1 of 1 workers registered as 'ava'.",
            id="broken code of an earlier manifest",
        ),
        pytest.param(
            [worker(report=status(draining=True))],
            1,
            "",
            "",
            (FALSE, Reason.NOT_REGISTERED),
            "not registered",
            id="draining worker does not count",
        ),
    ],
)
def test_workers_registered(
    seen: list[ObservedWorker],
    wanted: int,
    failure: str,
    blocked_until: str,
    expected: tuple[ConditionStatus, Reason],
    text: str,
) -> None:
    verdict = judged(seen, wanted, create_failure=failure, blocked_until=blocked_until)
    assert (verdict.status, verdict.reason) == expected
    assert text in verdict.message


def test_workers_have_no_name_with_automatic_dispatch() -> None:
    verdict = judged([worker(report=status(agent_name=""))], 1, dispatch={"mode": "Automatic"})
    assert verdict.status is TRUE
    assert "without a name (automatic dispatch)" in verdict.message


def test_long_list_of_pods_is_cut() -> None:
    seen = [worker(f"pod-{number}", start_failure="ImagePullBackOff") for number in range(9)]
    verdict = judged(seen, 9)
    assert verdict.message.count("ImagePullBackOff") == 3


@pytest.mark.parametrize(
    ("seen", "failure", "text"),
    [
        pytest.param(
            [worker(f"pod-{number}", start_failure="Unschedulable: " + "no node " * 5000) for number in range(9)],
            "",
            "kubectl describe pod pod-0 -n shop",
            id="the scheduler",
        ),
        pytest.param(
            [worker(report=status()), worker("pod-2", start_failure="CrashLoopBackOff: " + "x" * 40000)],
            "",
            "kubectl logs pod-2 -n shop --previous",
            id="the kubelet",
        ),
        pytest.param(
            [], "FailedCreate: " + "denied " * 6000, "Workers cannot start: FailedCreate", id="an admission policy"
        ),
        pytest.param(
            [worker(report=status(agent_name="n" * 40000))],
            "",
            "does not set LIVEKIT_AGENT_NAME_OVERRIDE",
            id="a worker",
        ),
    ],
)
def test_long_quotes_fit_into_a_condition(seen: list[ObservedWorker], failure: str, text: str) -> None:
    verdict = judged(seen, 9, create_failure=failure)
    assert text in verdict.message
    assert len(verdict.message) < 4000


@pytest.mark.parametrize(
    "seen", [[], [worker(report=status(calls=1), terminating=True)]], ids=["no workers", "draining"]
)
def test_suspended_outweighs_everything_else(seen: list[ObservedWorker]) -> None:
    verdict = judged(seen, 0, blocked_until="KnowledgeLoaded is true", suspend=True)
    assert (verdict.status, verdict.reason) == (FALSE, Reason.SUSPENDED)
    assert verdict.message == "spec.suspend is true: no worker takes calls."


@pytest.mark.parametrize(
    ("failure", "remedy"),
    [
        pytest.param("ImagePullBackOff: Back-off pulling image.", "Check spec.worker.image", id="no such image"),
        pytest.param("InvalidImageName: could not parse", "spec.worker.pod.imagePullSecrets", id="invalid image name"),
        pytest.param("CrashLoopBackOff: exit 1", "kubectl logs pod-1 -n shop --previous", id="crash loop"),
        pytest.param("Unschedulable: no Image fits", "kubectl describe pod pod-1 -n shop", id="anything else"),
    ],
)
def test_start_failure_is_reported_with_a_remedy(failure: str, remedy: str) -> None:
    verdict = judged([worker(start_failure=failure)], 1)
    assert remedy in verdict.message
    assert ".." not in verdict.message


FIXED_AT_NONE = {"mode": "Fixed", "workers": 0}


@pytest.mark.parametrize(
    ("seen", "draining"),
    [
        pytest.param([], "", id="no worker"),
        pytest.param(
            [worker(report=status(calls=1)), worker("pod-2", terminating=True)],
            " 2 workers are draining.",
            id="workers that drain",
        ),
    ],
)
def test_scaled_to_zero_where_no_call_starts_a_worker(seen: list[ObservedWorker], draining: str) -> None:
    verdict = judged(seen, 0, scaling=FIXED_AT_NONE)
    why = why_no_worker_starts(spec(scaling=FIXED_AT_NONE))
    assert "Set workers to 1 or more" in why
    assert (verdict.status, verdict.reason, verdict.message) == (FALSE, Reason.SCALED_TO_ZERO, why + draining)


@pytest.mark.parametrize(
    ("failure", "container", "reason"),
    [
        pytest.param("ImagePullBackOff: no such image", "", Reason.IMAGE_PULL_FAILED, id="the worker's image"),
        pytest.param("ErrImagePull: denied", "init container vault", Reason.NOT_REGISTERED, id="an injected image"),
        pytest.param("CrashLoopBackOff: exit 1", "", Reason.NOT_REGISTERED, id="crash loop"),
    ],
)
def test_image_that_cannot_be_pulled_has_its_own_reason(failure: str, container: str, reason: Reason) -> None:
    verdict = judged([worker(start_failure=failure, failed_container=container)], 1)
    assert (verdict.status, verdict.reason) == (FALSE, reason)


def test_stuck_pod_is_reported_beside_a_registered_one() -> None:
    wait = StartWait("ContainerCreating", "2026-01-04T23:59:00Z", CREATED - STUCK_SECONDS)
    stuck = worker("pod-2", running=False, ready=False, start_wait=wait)
    verdict = judged([worker(report=status()), stuck], 2)
    assert (verdict.status, verdict.reason) == (TRUE, Reason.PARTLY_REGISTERED)
    assert "pod pod-2: ContainerCreating since 2026-01-04T23:59:00Z." in verdict.message
    assert verdict.message.endswith("kubectl describe pod pod-2 -n shop")
    assert "Lost" not in verdict.message, "one explanation is enough"


def test_worker_with_invalid_settings_of_a_stage_points_to_the_condition() -> None:
    fault = StageFailure(at=1.0, fault="spec.voice.stt.plugin: the worker image has no livekit.plugins.x")
    stages = StageReports(stt=StageReport(failure=fault, failures=1))
    verdict = judged([worker(report=status(registered=False, worker_id="", stages=stages))], 1)
    assert (verdict.status, verdict.reason) == (FALSE, Reason.NOT_REGISTERED)
    assert "cannot use the settings of a stage: see ProvidersHealthy" in verdict.message
