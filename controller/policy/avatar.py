"""Decides AvatarAvailable: whether the next call gets an avatar. Calls without one follow avatar.onFailure."""

from collections.abc import Sequence
from dataclasses import dataclass

from agentspec import AvatarAgentSpec, AvatarProvider, OnAvatarFailure, Reason, WorkerStatus
from controller.observation import ObservedWorker
from controller.policy.verdict import Verdict, false, true
from controller.policy.wording import LONG_QUOTE_LENGTH, quoted


def free_seats(spec: AvatarAgentSpec, workers: Sequence[ObservedWorker]) -> int | None:
    """Avatars that may still be started; None: the manifest sets no limit. Draining workers keep their seats."""
    if spec.avatar.provider is AvatarProvider.NONE or spec.avatar.max_sessions is None:
        return None
    return max(0, spec.avatar.max_sessions - sum(worker.status.avatars for worker in workers if worker.status))


@dataclass(frozen=True, slots=True)
class AvatarFailure:
    """An avatar that could not be started."""

    pod: str
    error: str


def newest_failure(
    previous: AvatarFailure | None, pod: str, before: WorkerStatus | None, now: WorkerStatus
) -> AvatarFailure | None:
    """The failure of the agent's latest avatar after a worker reported its status; None: the latest one succeeded.

    A worker keeps reporting its last avatar error until an avatar succeeds. An avatar failed again when the error
    changed, or when a call with an avatar ended and the error is still reported. Failures of a plugin that cannot be
    used end with its configuration, so they do not count here.
    """
    if now.avatar_failure:
        return previous
    if now.avatar_problem:
        again = before is None or now.avatar_problem != before.avatar_problem or now.avatars < before.avatars
        return AvatarFailure(pod, now.avatar_problem) if again else previous
    succeeded = now.avatars > 0 or (before is not None and bool(before.avatar_problem))
    return None if succeeded else previous


def avatar_available(
    spec: AvatarAgentSpec, workers: Sequence[ObservedWorker], failure: AvatarFailure | None
) -> Verdict:
    """Whether the next call gets an avatar, judged by free seats and by the latest avatar."""
    if spec.avatar.provider is AvatarProvider.NONE:
        unused = _unused(spec)
        return true(Reason.NO_AVATAR_DECLARED, f"The agent has no avatar (spec.avatar.provider: None).{unused}")
    otherwise = "ends" if spec.avatar.on_failure is OnAvatarFailure.END_CALL else "continues with voice only"
    unusable = _unusable_plugin(workers)
    if unusable is not None:
        return false(
            Reason.AVATAR_PLUGIN_FAILED,
            f"Workers cannot use the avatar plugin (spec.avatar.plugin, pod {unusable.pod}): "
            f"{quoted(unusable.error, LONG_QUOTE_LENGTH)}. Correct it. Until then, a call {otherwise} "
            "(spec.avatar.onFailure).",
        )
    if failure is not None:
        return false(
            Reason.AVATAR_FAILING,
            f"The last avatar failed to start (pod {failure.pod}): {quoted(failure.error)}. A call without an avatar "
            f"{otherwise} (spec.avatar.onFailure). Check the provider account (API key, seats, {_ids(spec)}) and "
            f"that the provider can reach {_url_field(spec)} from the internet. The next avatar that starts clears "
            "this condition.",
        )
    if free_seats(spec, workers) == 0:
        return false(
            Reason.AVATAR_SEATS_TAKEN,
            f"All avatar seats are in use (spec.avatar.maxSessions: {spec.avatar.max_sessions}). The next call "
            f"{otherwise} (spec.avatar.onFailure). Buy more seats from the provider and raise maxSessions.",
        )
    limit = "no limit set" if spec.avatar.max_sessions is None else f"limit {spec.avatar.max_sessions}"
    return true(Reason.AVATAR_SEATS_FREE, f"Avatar seats are free ({limit} in spec.avatar.maxSessions).")


def _unused(spec: AvatarAgentSpec) -> str:
    """The hint about settings of a provider that is not chosen; empty: there are none."""
    settings = {AvatarProvider.TAVUS: spec.avatar.tavus, AvatarProvider.PLUGIN: spec.avatar.plugin}
    hints = [
        f" spec.avatar.{provider.lower()} is ignored; set provider: {provider} to use it."
        for provider, declared in settings.items()
        if declared is not None
    ]
    return "".join(hints)


def _unusable_plugin(workers: Sequence[ObservedWorker]) -> AvatarFailure | None:
    """Why workers that take calls cannot use the plugin; None: they can, or there is none."""
    for worker in workers:
        status = worker.status
        if status is not None and status.avatar_failure and not status.draining and not worker.pod.terminating:
            return AvatarFailure(worker.pod.name, status.avatar_failure)
    return None


def _ids(spec: AvatarAgentSpec) -> str:
    """What names the avatar at its provider."""
    return "face and PAL ids" if spec.avatar.provider is AvatarProvider.TAVUS else "spec.avatar.plugin.options"


def _url_field(spec: AvatarAgentSpec) -> str:
    """The field with the address at which the provider reaches LiveKit."""
    return "spec.livekit.publicURL" if spec.livekit.public_url else "spec.livekit.url"
