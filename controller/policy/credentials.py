"""Decides CredentialsValid: every Secret is there with its keys, and LiveKit accepts what is in them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from agentspec import AvatarAgentSpec, AvatarProvider, Reason
from agentspec.names import LIVEKIT_KEY, LIVEKIT_SECRET, OPENAI_KEY, TAVUS_KEY
from controller.observation import LiveKitAnswer, LiveKitVerdict, SecretSeen
from controller.policy.verdict import Verdict, false, true

_FINGERPRINT_LENGTH = 12


@dataclass(frozen=True, slots=True)
class WantedSecret:
    """A Secret that the manifest names, the keys wanted in it and the field that names it."""

    name: str
    keys: tuple[str, ...]
    field: str


def wanted_secrets(spec: AvatarAgentSpec) -> list[WantedSecret]:
    """All Secrets that the workers need."""
    wanted = [
        WantedSecret(
            spec.livekit.credentials_secret_ref.name,
            (LIVEKIT_KEY, LIVEKIT_SECRET),
            "spec.livekit.credentialsSecretRef",
        ),
        WantedSecret(
            spec.voice.openai.credentials_secret_ref.name, (OPENAI_KEY,), "spec.voice.openai.credentialsSecretRef"
        ),
    ]
    if spec.avatar.provider is AvatarProvider.TAVUS and spec.avatar.tavus is not None:
        wanted.append(
            WantedSecret(
                spec.avatar.tavus.credentials_secret_ref.name, (TAVUS_KEY,), "spec.avatar.tavus.credentialsSecretRef"
            )
        )
    return wanted


def secrets_complete(namespace: str, wanted: list[WantedSecret], seen: Mapping[str, SecretSeen]) -> Verdict | None:
    """The first Secret or key that is missing; None: all are there."""
    for secret in wanted:
        keys = seen[secret.name].keys
        if keys is None:
            literals = " ".join(f"--from-literal={key}=…" for key in secret.keys)
            return false(
                Reason.SECRET_NOT_FOUND,
                f"Secret {secret.name!r} ({secret.field}) does not exist in namespace {namespace!r}. Create it: "
                f"kubectl -n {namespace} create secret generic {secret.name} {literals}",
            )
        missing = [key for key in secret.keys if key not in keys]
        if missing:
            found = ", ".join(sorted(keys)) or "none"
            patch = '{"stringData":{' + ",".join(f'"{key}":"…"' for key in missing) + "}}"
            return false(
                Reason.SECRET_KEY_MISSING,
                f"Secret {secret.name!r} ({secret.field}) has no value under {', '.join(missing)}; keys with a value: "
                f"{found}. Add it: kubectl -n {namespace} patch secret {secret.name} -p '{patch}'",
            )
    return None


def fingerprint(uid: str, wanted: list[WantedSecret], values: Mapping[str, Mapping[str, str]]) -> str:
    """Changes with any value that the workers use, and tells nothing of it: salted with the agent's uid, and cut."""
    used = [[values[secret.name][key] for key in secret.keys] for secret in wanted]
    return hashlib.sha256(json.dumps([uid, used]).encode()).hexdigest()[:_FINGERPRINT_LENGTH]


def credentials(spec: AvatarAgentSpec, answer: LiveKitAnswer) -> Verdict:
    """What LiveKit said to credentials that are complete."""
    livekit = spec.livekit
    if answer.verdict is LiveKitVerdict.UNREACHABLE:
        return false(
            Reason.LIVEKIT_UNREACHABLE,
            f"LiveKit does not answer at {livekit.url}: {answer.detail}. Check spec.livekit.url (host, port, ws or "
            "wss), that the server runs, and that this cluster may reach it. It is tried again every few seconds.",
        )
    if answer.verdict is LiveKitVerdict.REJECTED:
        return false(
            Reason.CREDENTIALS_REJECTED,
            f"LiveKit at {livekit.url} refuses {LIVEKIT_KEY} and {LIVEKIT_SECRET} of Secret "
            f"{livekit.credentials_secret_ref.name!r}: {answer.detail}. Put a pair that the server "
            "knows into the Secret.",
        )
    return true(Reason.CREDENTIALS_ACCEPTED, f"All Secrets are complete and LiveKit at {livekit.url} accepts its keys.")
