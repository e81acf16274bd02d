"""The verdict on a Secret or ConfigMap that could not be read."""

from agentspec import Reason
from controller.observation import ReadFailure
from controller.policy.verdict import Verdict, false, unknown
from controller.policy.wording import quoted


def unreadable(reason: Reason, kind: str, name: str, *, field: str, namespace: str, failure: ReadFailure) -> Verdict:
    """False when the controller lacks a permission; unknown when the API server failed. `field` names the object."""
    problem = f"The controller cannot read {kind} {name!r} ({field}): {quoted(failure.message)}."
    retry = "The controller retries every few seconds"
    if failure.permanent:
        return false(
            reason,
            f"{problem} Allow the controller's ServiceAccount to get {kind}s in namespace {namespace!r}; the Helm "
            f"chart's RBAC does so for the namespaces that it is installed for. {retry}.",
        )
    return unknown(reason, f"{problem} {retry}. Until then running workers continue and no new ones start.")
