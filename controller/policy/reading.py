"""What is said of a Secret or ConfigMap that could not be read."""

from agentspec import Reason
from controller.observation import ReadFailure
from controller.policy.verdict import Verdict, false, unknown
from controller.policy.wording import quoted


def unreadable(reason: Reason, kind: str, name: str, *, field: str, namespace: str, problem: ReadFailure) -> Verdict:
    """False when somebody has to allow it; unknown when the API server did not manage. `field` names the object."""
    told = f"{kind} {name!r} ({field}) cannot be read: {quoted(problem.words)}."
    again = "It is tried again every few seconds"
    if problem.lasting:
        return false(
            reason,
            f"{told} Let the controller's ServiceAccount get {kind}s in namespace {namespace!r} (the chart's rbac "
            f"does, for the namespaces it is installed for). {again}.",
        )
    return unknown(reason, f"{told} {again}; meanwhile workers that run go on as they are, and no others are started.")
