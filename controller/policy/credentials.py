"""Decides CredentialsValid: every Secret is there with its keys, and the providers accept what is in them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from agentspec import AvatarAgentSpec, AvatarProvider, Reason
from agentspec.avatar import TavusSpec
from agentspec.names import LIVEKIT_KEY, LIVEKIT_SECRET, OPENAI_KEY, TAVUS_KEY
from controller.observation import ObservedSecret, Provider, ProviderAnswer, ProviderVerdict, ReadFailure
from controller.policy.reading import unreadable
from controller.policy.verdict import Verdict, false, true, unknown
from controller.policy.wording import listed, quoted

_FINGERPRINT_LENGTH = 12
_MAX_VALUE_CHARACTERS = 4096
"""Of a key; HTTP servers take about 8 KiB of headers."""


@dataclass(frozen=True, slots=True)
class WantedSecret:
    """A Secret that the manifest names, the keys wanted in it and the field that names it."""

    name: str
    keys: tuple[str, ...]
    field: str


def wanted_secrets(spec: AvatarAgentSpec) -> list[WantedSecret]:
    """All Secrets that the workers need. Two may be one Secret."""
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
    tavus = tavus_in_use(spec)
    if tavus is not None:
        field = "spec.avatar.tavus.credentialsSecretRef"
        wanted.append(WantedSecret(tavus.credentials_secret_ref.name, (TAVUS_KEY,), field))
    return wanted


def tavus_in_use(spec: AvatarAgentSpec) -> TavusSpec | None:
    """The settings for Tavus, if it renders the face: they may stay in a manifest that turned it off."""
    return spec.avatar.tavus if spec.avatar.provider is AvatarProvider.TAVUS else None


def observe_secret(name: str, values: Mapping[str, str] | None, problem: ReadFailure | None = None) -> ObservedSecret:
    """What may be known of a Secret without its values."""
    if values is None:
        return ObservedSecret(name, None, problem=problem)
    held = {key: value for key, value in values.items() if value}
    faults = {key: fault for key, value in held.items() if (fault := _fault(value))}
    return ObservedSecret(name, frozenset(held), faults)


def _fault(value: str) -> str:
    """What is wrong with a key, in any header or environment variable; empty: nothing that can be seen."""
    if "\N{REPLACEMENT CHARACTER}" in value:
        return "is not UTF-8 text"
    if any(letter in "\r\n" for letter in value):
        return "holds a line break"
    if not value.isascii() or not value.isprintable():
        return "holds characters that no key has (control characters, or letters beyond ASCII)"
    if len(value) > _MAX_VALUE_CHARACTERS:
        return f"has {len(value)} characters: it is not a key"
    return ""


def secrets_complete(namespace: str, wanted: list[WantedSecret], seen: Mapping[str, ObservedSecret]) -> Verdict | None:
    """The first Secret or key that is missing or cannot be used or read; None: all are there."""
    for secret in wanted:
        fault = _secret_fault(namespace, secret, seen[secret.name])
        if fault is not None:
            return fault
    return None


def _secret_fault(namespace: str, secret: WantedSecret, seen: ObservedSecret) -> Verdict | None:
    if seen.problem is not None:
        names = {"field": secret.field, "namespace": namespace}
        return unreadable(Reason.SECRET_UNREADABLE, "Secret", secret.name, **names, problem=seen.problem)
    if seen.keys is None:
        literals = " ".join(f"--from-literal={key}=…" for key in secret.keys)
        return false(
            Reason.SECRET_NOT_FOUND,
            f"Secret {secret.name!r} ({secret.field}) does not exist in namespace {namespace!r}. Create it: "
            f"kubectl -n {namespace} create secret generic {secret.name} {literals}",
        )
    missing = [key for key in secret.keys if key not in seen.keys]
    if missing:
        return false(
            Reason.SECRET_KEY_MISSING,
            f"Secret {secret.name!r} ({secret.field}) has no value under {', '.join(missing)}; keys with a value: "
            f"{listed(seen.keys)}. Add it: {_patch(namespace, secret.name, missing)}",
        )
    faulty = [key for key in secret.keys if key in seen.faults]
    if faulty:
        return false(
            Reason.SECRET_KEY_MISSING,
            f"Secret {secret.name!r} ({secret.field}) has no usable value under {faulty[0]}: it "
            f"{seen.faults[faulty[0]]}. Write it again: {_patch(namespace, secret.name, faulty)}",
        )
    return None


def _patch(namespace: str, name: str, keys: list[str]) -> str:
    data = ",".join(f'"{key}":"…"' for key in keys)
    return f"kubectl -n {namespace} patch secret {name} -p '{{\"stringData\":{{{data}}}}}'"


def fingerprint(uid: str, wanted: list[WantedSecret], values: Mapping[str, Mapping[str, str]]) -> str:
    """Changes with any value that the workers use, and tells nothing of it: salted with the agent's uid, and cut."""
    used = [[values[secret.name][key] for key in secret.keys] for secret in wanted]
    return hashlib.sha256(json.dumps([uid, used]).encode()).hexdigest()[:_FINGERPRINT_LENGTH]


def credentials(spec: AvatarAgentSpec, answers: Mapping[Provider, ProviderAnswer]) -> Verdict:
    """What the providers said to credentials that are complete.

    LiveKit must answer and accept, else no worker can register. OpenAI and Tavus must not refuse; while they do not
    answer nothing is known, and nothing is held back. Each gets the time of one try to say so.
    """
    told = {provider: _told(spec, provider, answer) for provider, answer in answers.items()}
    refusals = [told[provider] for provider, answer in answers.items() if answer.verdict is ProviderVerdict.REJECTED]
    silent = [provider for provider, answer in answers.items() if answer.verdict is ProviderVerdict.UNREACHABLE]
    if Provider.LIVEKIT in silent:
        return false(Reason.LIVEKIT_UNREACHABLE, " ".join([told[Provider.LIVEKIT], *refusals]))
    if refusals:
        return false(Reason.CREDENTIALS_REJECTED, " ".join(refusals))
    awaited = [provider for provider, answer in answers.items() if answer.verdict is ProviderVerdict.AWAITED]
    if awaited:
        return unknown(Reason.CREDENTIALS_PENDING, " ".join(told[provider] for provider in awaited))
    if silent:
        return unknown(Reason.PROVIDER_UNREACHABLE, " ".join(told[provider] for provider in silent))
    remarks = [told[provider] for provider, answer in answers.items() if answer.detail]
    *others, last = answers
    accepted = f"All Secrets are complete, and {', '.join(others)} and {last} accept their keys."
    return true(Reason.CREDENTIALS_ACCEPTED, " ".join([accepted, *remarks]))


def _told(spec: AvatarAgentSpec, provider: Provider, answer: ProviderAnswer) -> str:
    """One provider's part of the message."""
    field, url, secret, keys = _use(spec, provider)
    detail = quoted(answer.detail)
    if answer.verdict is ProviderVerdict.REJECTED:
        return (
            f"{provider} at {url} refuses {keys} of Secret {secret!r}: {detail}. "
            "Put into the Secret what the server knows; it is tried again every few seconds."
        )
    if answer.verdict is ProviderVerdict.AWAITED:
        return (
            f"{provider} at {url} is being asked whether it accepts {keys} of Secret {secret!r}, and has not answered "
            "yet. More is known in seconds; meanwhile workers that run go on as they are, and no others are started."
        )
    if answer.verdict is ProviderVerdict.UNREACHABLE and provider is Provider.LIVEKIT:
        return (
            f"LiveKit does not answer at {url}: {detail}. Check {field} (host, port, ws or wss), that the server runs, "
            "and that this cluster may reach it. It is tried again every few seconds."
        )
    if answer.verdict is ProviderVerdict.UNREACHABLE:
        return (
            f"{provider} at {url} did not say whether it accepts {keys} of Secret {secret!r}: {detail}. "
            f"Check {field} if this stays; workers run nevertheless."
        )
    return f"{provider} remarks: {detail}."


def _use(spec: AvatarAgentSpec, provider: Provider) -> tuple[str, str, str, str]:
    """The field that names the provider's server, its URL, the Secret, and the keys in it."""
    if provider is Provider.LIVEKIT:
        livekit = spec.livekit
        keys = f"{LIVEKIT_KEY} and {LIVEKIT_SECRET}"
        return "spec.livekit.url", livekit.url, livekit.credentials_secret_ref.name, keys
    if provider is Provider.OPENAI:
        openai = spec.voice.openai
        return "spec.voice.openai.baseURL", openai.base_url, openai.credentials_secret_ref.name, OPENAI_KEY
    if spec.avatar.tavus is None:
        raise ValueError("an answer of Tavus without an avatar of Tavus")
    tavus = spec.avatar.tavus
    return "spec.avatar.tavus.baseURL", tavus.base_url, tavus.credentials_secret_ref.name, TAVUS_KEY
