"""Reads the objects that a manifest refers to, probes its credentials, and decides the conditions for both."""

import asyncio
from collections.abc import Mapping

from agentspec import AvatarAgentSpec
from controller.inputs.providers import Providers
from controller.inputs.references import References
from controller.observation import Key, ObservedConfigMap, ObservedSecret, ReadFailure
from controller.policy.credentials import (
    credentials_valid,
    fingerprint,
    observe_secret,
    secrets_complete,
    wanted_secrets,
)
from controller.policy.environment import Environment, ObservedSource, Source, environment_of, environment_sources
from controller.policy.knowledge import knowledge_loaded, texts, wanted_config_maps
from controller.policy.snapshot import Inputs
from controller.policy.specification import spec_faults
from controller.policy.verdict import Verdict
from kube.client import ApiError


class InputReader:
    """Reads the inputs of an agent."""

    def __init__(self, references: References, providers: Providers) -> None:
        self._references = references
        self._providers = providers

    async def read(self, key: Key, uid: str, spec: AvatarAgentSpec) -> Inputs:
        """Read everything that the manifest refers to.

        Takes at most as long as requests to the API server; provider probes run in the background.
        """
        config_maps = wanted_config_maps(spec)
        sources = environment_sources(spec)
        self._references.retain(
            key,
            [*(secret.name for secret in wanted_secrets(spec)), *(s.name for s in sources if s.kind == "Secret")],
            [*config_maps, *(source.name for source in sources if source.kind == "ConfigMap")],
        )
        # The group cancels the other reads when one fails, so that none adds references later.
        async with asyncio.TaskGroup() as group:
            variables = group.create_task(self._environment(key, sources))
            credentials = group.create_task(self._credentials(key, uid, spec, variables))
            reads = [group.create_task(self._config_map(key, name)) for name in config_maps]
        verdict, digest = credentials.result()
        found = {seen.name: seen for seen in (task.result() for task in reads)}
        knowledge = knowledge_loaded(key.namespace, spec, found)
        instructions, greeting, documents = texts(spec, found)
        return Inputs(
            next(iter(spec_faults(spec)), None),
            verdict,
            digest,
            knowledge,
            instructions,
            greeting,
            documents,
            variables.result().secret_variables,
        )

    def refresh_soon(self, key: Key) -> None:
        """Read the agent's objects again within a second."""
        self._references.refresh_soon(key)

    def forget(self, key: Key) -> None:
        """Drop the cached state of an agent that no longer exists."""
        self._references.forget(key)
        self._providers.forget(key)

    async def _config_map(self, key: Key, name: str) -> ObservedConfigMap:
        try:
            found = await self._references.config_map(key, name)
        except ApiError as error:
            return ObservedConfigMap(name, None, read_failure=_read_failure(error))
        return ObservedConfigMap(name, None) if found is None else ObservedConfigMap(name, found.values, found.faults)

    async def _environment(self, key: Key, sources: list[Source]) -> Environment:
        seen: dict[tuple[str, str], ObservedSource] = {}
        for kind, name in {(source.kind, source.name) for source in sources}:
            seen[kind, name] = await self._source(key, kind, name)
        return environment_of(key.namespace, sources, seen)

    async def _source(self, key: Key, kind: str, name: str) -> ObservedSource:
        try:
            if kind == "Secret":
                return ObservedSource(await self._references.secret(key, name))
            found = await self._references.config_map(key, name)
            return ObservedSource(None if found is None else found.values)
        except ApiError as error:
            return ObservedSource(None, _read_failure(error))

    async def _credentials(
        self, key: Key, uid: str, spec: AvatarAgentSpec, reading: asyncio.Task[Environment]
    ) -> tuple[Verdict, str]:
        wanted = wanted_secrets(spec)
        seen: dict[str, ObservedSecret] = {}
        values: dict[str, Mapping[str, str]] = {}
        for name in sorted({secret.name for secret in wanted}):
            try:
                found = await self._references.secret(key, name)
                seen[name], values[name] = observe_secret(name, found), found or {}
            except ApiError as error:
                seen[name] = observe_secret(name, None, _read_failure(error))
        environment = await reading
        incomplete = secrets_complete(key.namespace, wanted, seen) or environment.fault
        if incomplete is not None:
            return incomplete, ""
        answers = await self._providers.check(key, spec, values)
        return credentials_valid(spec, answers), fingerprint(uid, wanted, values, environment.values)


def _read_failure(error: ApiError) -> ReadFailure:
    return ReadFailure(error.message or str(error), permanent=error.is_rejection)
