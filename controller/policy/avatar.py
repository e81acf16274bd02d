"""Decides AvatarAvailable: the next call would show a face. Whatever it says, calls go on as avatar.onFailure says."""

from collections.abc import Sequence

from agentspec import AvatarAgentSpec, AvatarProvider, OnAvatarFailure, Reason
from controller.observation import WorkerSeen
from controller.policy.verdict import Verdict, false, true
from controller.policy.wording import quoted


def seats(spec: AvatarAgentSpec, workers: Sequence[WorkerSeen]) -> int | None:
    """Avatars that may still be started; None: there is no limit of ours. Leaving workers keep their seats."""
    if spec.avatar.provider is AvatarProvider.NONE or spec.avatar.max_sessions is None:
        return None
    return max(0, spec.avatar.max_sessions - sum(worker.status.avatars for worker in workers if worker.status))


def avatar(spec: AvatarAgentSpec, workers: Sequence[WorkerSeen]) -> Verdict:
    """Whether the next call would show a face, as far as the last ones tell."""
    if spec.avatar.provider is AvatarProvider.NONE:
        return true(Reason.NO_AVATAR_DECLARED, "The agent speaks without a face (spec.avatar.provider: None).")
    otherwise = "ends" if spec.avatar.on_failure is OnAvatarFailure.END_CALL else "goes on by voice"
    heard = [(worker.pod.name, worker.status) for worker in workers if worker.status is not None]
    failed = [(pod, status.avatar_problem) for pod, status in heard if status.avatar_problem]
    showing = any(status.avatars and not status.avatar_problem for _, status in heard)
    if failed and not showing:
        pod, problem = failed[0]
        return false(
            Reason.AVATAR_FAILING,
            f"The last avatar did not come: {quoted(problem)} (pod {pod}). A call without one "
            f"{otherwise} (spec.avatar.onFailure). Check the provider's account (key, seats, face and PAL ids), and "
            "that it can reach spec.livekit.url from the internet; the next avatar that comes clears this.",
        )
    if seats(spec, workers) == 0:
        return false(
            Reason.AVATAR_SEATS_TAKEN,
            f"All {spec.avatar.max_sessions} seats (spec.avatar.maxSessions) are taken; the next call {otherwise} "
            "(spec.avatar.onFailure). Raise maxSessions if more are bought.",
        )
    limit = "no limit is declared" if spec.avatar.max_sessions is None else f"of {spec.avatar.max_sessions} declared"
    return true(Reason.AVATAR_SEATS_FREE, f"Seats are free ({limit}, spec.avatar.maxSessions).")
