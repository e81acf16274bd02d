"""Decides AvatarAvailable: the next call would show a face. Whatever it says, calls go on as avatar.onFailure says."""

from collections.abc import Sequence
from dataclasses import dataclass

from agentspec import AvatarAgentSpec, AvatarProvider, OnAvatarFailure, Reason, WorkerStatus
from controller.observation import ObservedWorker
from controller.policy.verdict import Verdict, false, true
from controller.policy.wording import quoted


def seats(spec: AvatarAgentSpec, workers: Sequence[ObservedWorker]) -> int | None:
    """Avatars that may still be started; None: there is no limit of ours. Leaving workers keep their seats."""
    if spec.avatar.provider is AvatarProvider.NONE or spec.avatar.max_sessions is None:
        return None
    return max(0, spec.avatar.max_sessions - sum(worker.status.avatars for worker in workers if worker.status))


@dataclass(frozen=True, slots=True)
class AvatarFailure:
    """An avatar did not come."""

    pod: str
    problem: str


def newest_failure(
    known: AvatarFailure | None, pod: str, before: WorkerStatus | None, now: WorkerStatus
) -> AvatarFailure | None:
    """The newest that is known of an agent's avatars, if it is a failure, once a worker has told its state.

    A worker keeps its last problem until an avatar comes: it failed again when the problem is another one, or when a
    call with an avatar has ended and the problem is still there.
    """
    if now.avatar_problem:
        again = before is None or now.avatar_problem != before.avatar_problem or now.avatars < before.avatars
        return AvatarFailure(pod, now.avatar_problem) if again else known
    came = now.avatars > 0 or (before is not None and bool(before.avatar_problem))
    return None if came else known


def avatar(spec: AvatarAgentSpec, workers: Sequence[ObservedWorker], failure: AvatarFailure | None) -> Verdict:
    """Whether the next call would show a face, as far as the last one tells."""
    if spec.avatar.provider is AvatarProvider.NONE:
        unused = " avatar.tavus is there: write provider: Tavus to show it." if spec.avatar.tavus is not None else ""
        return true(Reason.NO_AVATAR_DECLARED, f"The agent speaks without a face (spec.avatar.provider: None).{unused}")
    otherwise = "ends" if spec.avatar.on_failure is OnAvatarFailure.END_CALL else "goes on by voice"
    if failure is not None:
        return false(
            Reason.AVATAR_FAILING,
            f"The last avatar did not come: {quoted(failure.problem)} (pod {failure.pod}). A call without one "
            f"{otherwise} (spec.avatar.onFailure). Check the provider's account (key, seats, face and PAL ids), and "
            "that it can reach spec.livekit.url from the internet; the next avatar that comes clears this.",
        )
    if seats(spec, workers) == 0:
        return false(
            Reason.AVATAR_SEATS_TAKEN,
            f"Every seat is taken (spec.avatar.maxSessions: {spec.avatar.max_sessions}); the next call {otherwise} "
            "(spec.avatar.onFailure). Raise maxSessions if more are bought.",
        )
    limit = "no limit is declared" if spec.avatar.max_sessions is None else f"of {spec.avatar.max_sessions} declared"
    return true(Reason.AVATAR_SEATS_FREE, f"Seats are free ({limit}, spec.avatar.maxSessions).")
