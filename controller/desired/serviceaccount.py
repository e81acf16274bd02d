"""The ServiceAccount that workers run as. They never speak to the API server, so it carries no token."""

from typing import Any

from controller.desired.identity import Owner, metadata


def service_account(owner: Owner) -> dict[str, Any]:
    """A ServiceAccount without rights and without a token."""
    return {"metadata": metadata(owner, owner.worker_name), "automountServiceAccountToken": False}
