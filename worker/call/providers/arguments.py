"""Finds the class of a stage's provider, and the arguments for its constructor, as `worker.plugins` checks them.

`SettingsFault` says in one sentence what is wrong, with the field of the manifest.
"""

import contextlib
from collections.abc import Mapping
from typing import Any, Final

from agentspec import VoiceSpec
from agentspec.voice import StageEntry, StageProvider
from worker import plugins
from worker.plugins import PluginError

CLASSES: Final = {"stt": "STT", "llm": "LLM", "tts": "TTS"}
"""Name of each stage's class in every plugin."""
_FIELDS: Final = {"base_url": "baseURL", "api_key": "credentialsSecretRef"}
"""Fields of the manifest by parameter, where their names differ."""


class SettingsFault(Exception):
    """What is wrong with the settings of a stage. The message has the field and what is possible instead."""


def plugin_class(entry: StageEntry) -> type[Any]:
    """Return the class of a plugin for a stage. Imports the plugin; raises SettingsFault."""
    plugin = entry.provider.plugin or ""
    try:
        return plugins.find(plugin, CLASSES[entry.stage])
    except PluginError as error:
        raise SettingsFault(f"{entry.field}.plugin: {error}") from error
    except Exception as error:  # the plugin's import may raise anything
        raise SettingsFault(
            f"{entry.field}.plugin: {plugins.PACKAGE}.{plugin} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def import_plugins(voice: VoiceSpec) -> None:
    """Import the declared plugins. One that cannot be imported is reported by the check of the settings."""
    for entry in voice.entries():
        if entry.provider.provider is StageProvider.PLUGIN:
            with contextlib.suppress(SettingsFault):
                plugin_class(entry)


def checked(
    entry: StageEntry, cls: type[Any], given: Mapping[str, Any], suggested: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the keyword arguments for a class, as the types that it declares.

    `given`: from the fields of the manifest, by parameter; None is not set. `suggested`: passed only when the class
    takes them. `options` of the manifest have priority over both. Raises SettingsFault.
    """
    options = entry.provider.options
    fields = {name: value for name, value in given.items() if value is not None and name not in options}
    for name in fields:
        if not plugins.takes(cls, name):
            field = _FIELDS.get(name, name)
            raise SettingsFault(
                f"{entry.field}.{field}: {plugins.name_of(cls)} takes no {name}: remove {field}, and set what it takes "
                "in options or worker.env"
            )
    extra = {name: value for name, value in suggested.items() if plugins.takes(cls, name) and name not in options}
    try:
        return extra | plugins.arguments(cls, fields | options)
    except PluginError as error:
        raise SettingsFault(f"{entry.field}.options: {error}") from error
