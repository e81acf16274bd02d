"""Decides CredentialsValid: every Secret exists with its keys, and the providers accept the credentials."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agentspec import AvatarAgentSpec, AvatarProvider, Reason, VoiceSpec
from agentspec.avatar import TavusSpec
from agentspec.names import AVATAR_PLUGIN_KEY, LIVEKIT_KEY, LIVEKIT_SECRET, PROVIDER_KEY, TAVUS_KEY
from agentspec.signing import KEY_HINT, decode_key
from agentspec.voice import Address, StageEntry, StageProvider
from controller.observation import ObservedSecret, Provider, ProviderAnswer, ProviderVerdict, ReadFailure
from controller.policy.reading import unreadable
from controller.policy.verdict import Verdict, false, true, unknown
from controller.policy.wording import listed, quoted

_FINGERPRINT_LENGTH = 12
_MAX_VALUE_CHARACTERS = 4096
"""Maximum length of a key; HTTP servers accept about 8 KiB of headers."""


@dataclass(frozen=True, slots=True)
class WantedSecret:
    """A Secret that the manifest names, the keys that it must have, and the field that names it."""

    name: str
    keys: tuple[str, ...]
    field: str
    is_signing_key: bool = False
    """Its values must be keys that can sign."""


def wanted_secrets(spec: AvatarAgentSpec) -> list[WantedSecret]:
    """All Secrets that the workers need. Two entries may name the same Secret."""
    wanted = [
        WantedSecret(
            spec.livekit.credentials_secret_ref.name,
            (LIVEKIT_KEY, LIVEKIT_SECRET),
            "spec.livekit.credentialsSecretRef",
        ),
        *_provider_secrets(spec.voice),
    ]
    tavus = tavus_in_use(spec)
    if tavus is not None:
        field = "spec.avatar.tavus.credentialsSecretRef"
        wanted.append(WantedSecret(tavus.credentials_secret_ref.name, (TAVUS_KEY,), field))
    plugin_secret = avatar_plugin_secret(spec)
    if plugin_secret is not None:
        wanted.append(WantedSecret(plugin_secret, (AVATAR_PLUGIN_KEY,), "spec.avatar.plugin.credentialsSecretRef"))
    for tool in spec.tools:
        for header in tool.headers:
            field = f"header {header.name} of the tool {tool.name} in spec.tools"
            wanted.append(WantedSecret(header.secret_key_ref.name, (header.secret_key_ref.key,), field))
    if spec.report is not None:
        ref = spec.report.secret_key_ref
        wanted.append(WantedSecret(ref.name, (ref.key,), "spec.report.secretKeyRef", is_signing_key=True))
    for header in spec.tracing.headers if spec.tracing is not None else ():
        ref = header.secret_key_ref
        wanted.append(WantedSecret(ref.name, (ref.key,), f"header {header.name} in spec.tracing"))
    return wanted


def _provider_secrets(voice: VoiceSpec) -> list[WantedSecret]:
    """The Secrets of the voice's providers: the common one if a stage uses it, and those of stages and fallbacks."""
    wanted = []
    if voice.openai is not None and voice.uses_common:
        name = voice.openai.credentials_secret_ref.name
        wanted.append(WantedSecret(name, (PROVIDER_KEY,), "spec.voice.openai.credentialsSecretRef"))
    for entry in voice.entries():
        if (own := entry.provider.credentials_secret_ref) is not None:
            wanted.append(WantedSecret(own.name, (PROVIDER_KEY,), f"{entry.field}.credentialsSecretRef"))
    return wanted


@dataclass(frozen=True, slots=True)
class OpenAIUse:
    """An address of the OpenAI API, or of a compatible one, to which stages send a key."""

    url: str
    url_field: str
    secret: str
    model: str
    """A model that the stages request there: the language model's if it is there."""
    model_field: str


def openai_uses(voice: VoiceSpec) -> dict[str, OpenAIUse]:
    """The addresses with a key, by a name for messages: ``OpenAI`` for the common one."""
    entries: dict[Address, list[StageEntry]] = {}
    for entry in voice.entries():
        if entry.provider.provider is StageProvider.OPENAI and (address := voice.address(entry)).secret is not None:
            entries.setdefault(address, []).append(entry)
    return {
        Provider.OPENAI.value if address.is_common else f"{Provider.OPENAI} ({users[0].field})": _openai_use(
            address, users
        )
        for address, users in entries.items()
    }


def _openai_use(address: Address, users: list[StageEntry]) -> OpenAIUse:
    asked = next((entry for entry in users if entry.stage == "llm"), users[0])
    own = users[0].provider.base_url is not None
    return OpenAIUse(
        url=address.base_url,
        url_field=f"{users[0].field}.baseURL" if own else "spec.voice.openai.baseURL",
        secret=address.secret or "",
        model=asked.provider.model or "",
        model_field=f"{asked.field}.model",
    )


def tavus_in_use(spec: AvatarAgentSpec) -> TavusSpec | None:
    """The Tavus settings if Tavus renders the avatar; a manifest may keep them with another provider."""
    return spec.avatar.tavus if spec.avatar.provider is AvatarProvider.TAVUS else None


def avatar_plugin_secret(spec: AvatarAgentSpec) -> str | None:
    """The name of the Secret of the plugin that renders the avatar; None: there is no plugin, or it needs no Secret."""
    plugin = spec.avatar.plugin if spec.avatar.provider is AvatarProvider.PLUGIN else None
    return plugin.credentials_secret_ref.name if plugin is not None and plugin.credentials_secret_ref else None


def observe_secret(
    name: str, values: Mapping[str, str] | None, read_failure: ReadFailure | None = None
) -> ObservedSecret:
    """The Secret without its values, for use in verdicts."""
    if values is None:
        return ObservedSecret(name, None, read_failure=read_failure)
    present = {key: value for key, value in values.items() if value}
    faults = {key: fault for key, value in present.items() if (fault := _fault(value))}
    signing_keys = frozenset(key for key, value in present.items() if _can_sign(value))
    return ObservedSecret(name, frozenset(present), faults, signing_keys=signing_keys)


def _can_sign(value: str) -> bool:
    try:
        decode_key(value)
    except ValueError:
        return False
    return True


def _fault(value: str) -> str:
    """Why a value cannot be sent as a key in an HTTP header or environment variable; empty: it can."""
    if "\N{REPLACEMENT CHARACTER}" in value:
        return "is not UTF-8 text"
    if any(letter in "\r\n" for letter in value):
        return "contains a line break"
    if not value.isascii() or not value.isprintable():
        return "contains control characters or non-ASCII letters"
    if len(value) > _MAX_VALUE_CHARACTERS:
        return f"has {len(value)} characters; the maximum is {_MAX_VALUE_CHARACTERS}"
    return ""


def secrets_complete(namespace: str, wanted: list[WantedSecret], seen: Mapping[str, ObservedSecret]) -> Verdict | None:
    """The first Secret or key that is missing, unusable or unreadable; None: all Secrets are complete."""
    for secret in wanted:
        fault = _secret_fault(namespace, secret, seen[secret.name])
        if fault is not None:
            return fault
    return None


def _secret_fault(namespace: str, secret: WantedSecret, seen: ObservedSecret) -> Verdict | None:
    if seen.read_failure is not None:
        names = {"field": secret.field, "namespace": namespace}
        return unreadable(Reason.SECRET_UNREADABLE, "Secret", secret.name, **names, failure=seen.read_failure)
    if seen.keys is None:
        literals = " ".join(f"--from-literal={key}=…" for key in secret.keys)
        return false(
            Reason.SECRET_NOT_FOUND,
            f"Secret {secret.name!r} ({secret.field}) does not exist in namespace {namespace!r}. Correct the "
            f"name, or create the Secret: "
            f"kubectl -n {namespace} create secret generic {secret.name} {literals}",
        )
    missing = [key for key in secret.keys if key not in seen.keys]
    if missing:
        return false(
            Reason.SECRET_KEY_MISSING,
            f"Secret {secret.name!r} ({secret.field}) has no value for {', '.join(missing)}. Keys with a value: "
            f"{listed(seen.keys)}. Set what is missing: {_patch(namespace, secret.name, missing)}",
        )
    faulty = [key for key in secret.keys if key in seen.faults]
    if faulty:
        return false(
            Reason.SECRET_KEY_MISSING,
            f"Secret {secret.name!r} ({secret.field}) has an unusable value for {faulty[0]}: it "
            f"{seen.faults[faulty[0]]}. Set it again: {_patch(namespace, secret.name, faulty)}",
        )
    unfit = [key for key in secret.keys if key not in seen.signing_keys] if secret.is_signing_key else []
    if unfit:
        return false(
            Reason.SECRET_KEY_MISSING,
            f"Secret {secret.name!r} ({secret.field}) has no signing key in {unfit[0]}: set {KEY_HINT}, and then "
            f"{_patch(namespace, secret.name, unfit)}",
        )
    return None


def _patch(namespace: str, name: str, keys: list[str]) -> str:
    data = ",".join(f'"{key}":"…"' for key in keys)
    return f"kubectl -n {namespace} patch secret {name} -p '{{\"stringData\":{{{data}}}}}'"


def fingerprint(
    uid: str,
    wanted: list[WantedSecret],
    values: Mapping[str, Mapping[str, str]],
    variables: Sequence[tuple[str, str]] = (),
) -> str:
    """A hash that changes with every value that workers use and reveals none: salted with the uid, and truncated.

    `variables`: those of `worker.env` and `worker.envFrom`, by name. Without any, the hash is that of release 0.1.0.
    """
    used = [[values[secret.name][key] for key in secret.keys] for secret in wanted]
    text = json.dumps([uid, used, list(variables)] if variables else [uid, used])
    return hashlib.sha256(text.encode()).hexdigest()[:_FINGERPRINT_LENGTH]


def credentials_valid(spec: AvatarAgentSpec, answers: Mapping[str, ProviderAnswer]) -> Verdict:
    """Whether the providers accept credentials that are complete; `answers` by the names that messages use.

    LiveKit must answer and accept, otherwise no worker can register. OpenAI and Tavus must not reject. While one of
    them is unreachable the status is Unknown and rollouts continue. Each provider has the time of one probe to answer.
    """
    messages = {provider: _message(spec, provider, answer) for provider, answer in answers.items()}

    def with_verdict(verdict: ProviderVerdict) -> list[str]:
        return [provider for provider, answer in answers.items() if answer.verdict is verdict]

    rejections = [messages[provider] for provider in with_verdict(ProviderVerdict.REJECTED)]
    unreachable = with_verdict(ProviderVerdict.UNREACHABLE)
    if Provider.LIVEKIT in unreachable:
        return false(Reason.LIVEKIT_UNREACHABLE, " ".join([messages[Provider.LIVEKIT], *rejections]))
    if rejections:
        return false(Reason.CREDENTIALS_REJECTED, " ".join(rejections))
    pending = with_verdict(ProviderVerdict.PENDING)
    if pending:
        return unknown(Reason.CREDENTIALS_PENDING, " ".join(messages[provider] for provider in pending))
    if unreachable:
        return unknown(Reason.PROVIDER_UNREACHABLE, " ".join(messages[provider] for provider in unreachable))
    warnings = [messages[provider] for provider, answer in answers.items() if answer.detail]
    *others, last = answers
    accept = f"{', '.join(others)} and {last} accept their keys" if others else f"{last} accepts its keys"
    return true(Reason.CREDENTIALS_ACCEPTED, " ".join([f"All Secrets are complete, and {accept}.", *warnings]))


def _message(spec: AvatarAgentSpec, provider: str, answer: ProviderAnswer) -> str:
    """The part of the condition message about one provider."""
    field, url, secret, keys = _use(spec, provider)
    detail = quoted(answer.detail)
    if answer.verdict is ProviderVerdict.REJECTED:
        return (
            f"{provider} at {url} rejects {keys} of Secret {secret!r}: {detail}. "
            "Update the Secret with valid keys; the controller rechecks every few seconds."
        )
    if answer.verdict is ProviderVerdict.PENDING:
        return (
            f"The controller is checking {keys} of Secret {secret!r} with {provider} at {url} and waits for the "
            "answer, which takes a few seconds. Until then running workers continue and no new ones start."
        )
    if answer.verdict is ProviderVerdict.UNREACHABLE and provider == Provider.LIVEKIT:
        return (
            f"LiveKit is unreachable at {url}: {detail}. Check {field} (host, port, ws or wss), that the server runs, "
            "and that this cluster can connect to it. The controller rechecks every few seconds."
        )
    if answer.verdict is ProviderVerdict.UNREACHABLE:
        return (
            f"The controller could not check {keys} of Secret {secret!r} with {provider} at {url}: {detail}. Workers "
            f"run nevertheless. If this persists, check {field} and that this cluster can connect to it."
        )
    return f"Warning: {provider} accepts the key but {detail}."


def _use(spec: AvatarAgentSpec, provider: str) -> tuple[str, str, str, str]:
    """The field that names the provider's server, the server's URL, the Secret, and the keys in it."""
    if provider == Provider.LIVEKIT:
        livekit = spec.livekit
        keys = f"{LIVEKIT_KEY} and {LIVEKIT_SECRET}"
        return "spec.livekit.url", livekit.url, livekit.credentials_secret_ref.name, keys
    if (openai := openai_uses(spec.voice).get(provider)) is not None:
        return openai.url_field, openai.url, openai.secret, PROVIDER_KEY
    if spec.avatar.tavus is None:
        raise ValueError("an answer from Tavus for a spec without avatar.tavus")
    tavus = spec.avatar.tavus
    return "spec.avatar.tavus.baseURL", tavus.base_url, tavus.credentials_secret_ref.name, TAVUS_KEY
