"""Reads what a manifest refers to, tries its credentials, and judges both."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from agentspec import AvatarAgentSpec, ConditionStatus, KnowledgeDocument
from controller.cluster.client import ApiError
from controller.observation import Key, KnowledgeSeen, SecretSeen
from controller.policy.credentials import credentials, fingerprint, secret_seen, secrets_complete, wanted_secrets
from controller.policy.knowledge import knowledge, texts, wanted_config_maps
from controller.policy.specification import pattern_fault
from controller.policy.verdict import Verdict
from controller.providers import Providers
from controller.references import References


@dataclass(frozen=True, slots=True)
class Inputs:
    """What workers need, and whether it is there."""

    fault: Verdict | None
    """What is wrong with the manifest itself."""
    credentials: Verdict
    credentials_fingerprint: str
    """Changes with any value that workers get; empty while some are missing."""
    knowledge: Verdict
    instructions: str
    greeting: str
    documents: list[KnowledgeDocument]

    @property
    def usable(self) -> bool:
        """Whether workers started now would work, as far as anybody knows."""
        judged = (self.credentials, self.knowledge)
        return self.fault is None and all(verdict.status is not ConditionStatus.FALSE for verdict in judged)


class InputReader:
    """Reads inputs."""

    def __init__(self, references: References, providers: Providers) -> None:
        self._references = references
        self._providers = providers

    async def read(self, key: Key, uid: str, spec: AvatarAgentSpec) -> Inputs:
        """Everything that the manifest refers to. Raises ApiError when the API server could not be asked."""
        (verdict, digest), found = await asyncio.gather(self._credentials(key, uid, spec), self._texts(key, spec))
        judged = knowledge(key.namespace, spec, found)
        return Inputs(pattern_fault(spec), verdict, digest, judged, *texts(spec, found))

    def hurry(self, key: Key) -> None:
        """What the agent refers to is read again soon."""
        self._references.hurry(key)

    def forget(self, key: Key) -> None:
        """The agent is gone."""
        self._references.forget(key)

    async def _texts(self, key: Key, spec: AvatarAgentSpec) -> dict[str, KnowledgeSeen]:
        names = wanted_config_maps(spec)
        found = await asyncio.gather(*(self._references.config_map(key, name) for name in names))
        return {name: KnowledgeSeen(name, held) for name, held in zip(names, found, strict=True)}

    async def _credentials(self, key: Key, uid: str, spec: AvatarAgentSpec) -> tuple[Verdict, str]:
        wanted = wanted_secrets(spec)
        names = sorted({secret.name for secret in wanted})
        self._references.keep(key, names, wanted_config_maps(spec))
        seen: dict[str, SecretSeen] = {}
        values: dict[str, Mapping[str, str]] = {}
        for name in names:
            try:
                held = await self._references.secret(key, name)
                seen[name], values[name] = secret_seen(name, held), held or {}
            except ApiError as error:
                if not error.refused:
                    raise
                seen[name] = secret_seen(name, None, error.message or str(error))
        incomplete = secrets_complete(key.namespace, wanted, seen)
        if incomplete is not None:
            return incomplete, ""
        answers = await self._providers.check(key, spec, values)
        return credentials(spec, answers), fingerprint(uid, wanted, values)
