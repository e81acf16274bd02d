"""Finds the class of a stage's provider, and checks the declared options against its constructor.

A plugin is unknown to this project, so its own signature decides: the names of the options, and their types as far as
they can be checked. `SettingsFault` says in one sentence what is wrong, with the field of the manifest.
"""

import contextlib
import importlib
import inspect
import json
import pkgutil
import typing
from collections.abc import Mapping
from typing import Any, Final

import livekit.plugins
from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from agentspec import VoiceSpec
from agentspec.voice import StageEntry, StageProvider

CLASSES: Final = {"stt": "STT", "llm": "LLM", "tts": "TTS"}
"""Name of each stage's class in every plugin."""
_NOT_IN_A_MANIFEST: Final = frozenset({"self", "client", "http_session", "args", "kwargs"})
"""Parameters whose values are objects of the process."""

_NO_JSON: Final = "needs_python_object"
"""Pydantic's type of the fault that only an object of the process could have the declared type."""


class SettingsFault(Exception):
    """What is wrong with the settings of a stage. The message has the field and what is possible instead."""


def plugin_class(entry: StageEntry) -> type[Any]:
    """Return the class of a plugin for a stage. Imports the plugin; raises SettingsFault."""
    plugin, name = entry.provider.plugin, CLASSES[entry.stage]
    module_name = f"livekit.plugins.{plugin}"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise SettingsFault(f"{entry.field}.plugin: {module_name} cannot be imported: {error}") from error
        there = ", ".join(sorted(found.name for found in pkgutil.iter_modules(livekit.plugins.__path__)))
        raise SettingsFault(f"{entry.field}.plugin: the worker image has no {module_name}; it has {there}") from error
    except Exception as error:
        raise SettingsFault(
            f"{entry.field}.plugin: {module_name} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    found = getattr(module, name, None)
    if not isinstance(found, type):
        has = [one for one in CLASSES.values() if isinstance(getattr(module, one, None), type)]
        raise SettingsFault(
            f"{entry.field}.plugin: {module_name} has no class {name}; it has {', '.join(has) or 'no stage'}"
        )
    return found


def import_plugins(voice: VoiceSpec) -> None:
    """Import the declared plugins. One that cannot be imported is reported by the check of the settings."""
    for entry in voice.entries():
        if entry.provider.provider is StageProvider.PLUGIN:
            with contextlib.suppress(SettingsFault):
                plugin_class(entry)


def checked(
    entry: StageEntry, cls: type[Any], given: Mapping[str, Any], suggested: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the keyword arguments for a class, converted to the types that it declares.

    `given`: from the fields of the manifest, by parameter; None is not set. `suggested`: passed only when the class
    takes them. `options` of the manifest have priority over both. Raises SettingsFault.
    """
    parameters = inspect.signature(cls).parameters
    takes_all = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    options = entry.provider.options
    fields = {name: value for name, value in given.items() if value is not None and name not in options}
    for name in fields:
        if name not in parameters and not takes_all:
            raise SettingsFault(f"{_field(entry, name)}: {_label(cls)} takes no {name}; it takes {_listed(parameters)}")
    for name in options:
        if name in _NOT_IN_A_MANIFEST or (name not in parameters and not takes_all):
            raise SettingsFault(
                f"{entry.field}.options.{name}: {_label(cls)} takes no such option; it takes {_listed(parameters)}"
            )
    hints = _hints(cls)
    typed = {name: _converted(entry, name, value, hints.get(name)) for name, value in options.items()}
    extra = {name: value for name, value in suggested.items() if name in parameters and name not in options}
    return extra | fields | typed


def _field(entry: StageEntry, parameter: str) -> str:
    """Return the field of the manifest that becomes a parameter."""
    fields = {"base_url": "baseURL", "api_key": "credentialsSecretRef"}
    return f"{entry.field}.{fields.get(parameter, parameter)}"


def _label(cls: type[Any]) -> str:
    return f"{cls.__module__.rsplit('.', 1)[0]}.{cls.__name__}"


def _listed(parameters: Mapping[str, inspect.Parameter]) -> str:
    return ", ".join(name for name in parameters if name not in _NOT_IN_A_MANIFEST)


def _hints(cls: type[Any]) -> dict[str, Any]:
    """Return the types of the constructor's parameters; none when they cannot be resolved."""
    try:
        return typing.get_type_hints(cls.__init__)
    except Exception:  # a plugin may import the names of its types only for type checkers
        return {}


def _converted(entry: StageEntry, name: str, value: Any, hint: Any) -> Any:  # noqa: ANN401 - decoded JSON, any type
    """Return an option as the type that the plugin declares; as it is when the type cannot be checked."""
    if hint is None:
        return value
    try:
        adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError as error:
        if "config" not in str(error):
            return value
        adapter = TypeAdapter(hint)
    except (PydanticSchemaGenerationError, NameError):
        return value
    try:
        return adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        reasons = dict.fromkeys(fault["msg"] for fault in faults if fault["type"] != _NO_JSON)
        what = "; ".join(reasons) or "a manifest cannot contain a value of this type"
        raise SettingsFault(f"{entry.field}.options.{name}: {what}") from error
