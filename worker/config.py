"""The worker's settings from its environment, and its configuration document. Both are read once, at start."""

import os
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError

from agentspec import AvatarProvider
from agentspec.names import AVATAR_KEY_VARIABLE, REPORT_KEY_VARIABLE, WORKER_PORT
from agentspec.roompattern import RoomPatternInvalid, compile_pattern
from agentspec.signing import KEY_HINT, decode_key
from agentspec.voice import KEY_VARIABLES
from agentspec.wire import CONFIG_PATH, WorkerConfig, read
from process.settings import Port, ProcessSettings, SettingsError, load

CONFIG_VARIABLE: Final = "AVATAR_AGENT_CONFIG"
"""Environment variable that names another configuration file. Call processes read it too."""
PORT_VARIABLE: Final = "AVATAR_AGENT_PORT"
"""Environment variable that names another port for the worker's HTTP endpoints."""

_MAX_CONFIG_BYTES: Final = 4 * 1024 * 1024

SECRET_VARIABLES: Final = (
    "LIVEKIT_API_KEY",
    "LIVEKIT_API_SECRET",
    "OPENAI_API_KEY",
    "TAVUS_API_KEY",
    AVATAR_KEY_VARIABLE,
    *KEY_VARIABLES,
    REPORT_KEY_VARIABLE,
)
"""Environment variables whose values never appear in a log line."""

SDK_VARIABLES: Final = (
    "LIVEKIT_AGENT_NAME",
    "LIVEKIT_AGENT_NAME_OVERRIDE",
    "LIVEKIT_AGENT_DEPLOYMENT",
    "LIVEKIT_WORKER_TOKEN",
    "LIVEKIT_INFERENCE_URL",
)
"""Variables by which the SDK would register differently from the configuration; a worker removes them."""


class WorkerEnvironment(ProcessSettings):
    """What the environment sets: where the configuration is, and the credentials."""

    config_file: Path = Field(
        default=Path(CONFIG_PATH), validation_alias=CONFIG_VARIABLE, description="the configuration file"
    )
    livekit_key: str = Field(
        repr=False, validation_alias="LIVEKIT_API_KEY", description="the API key of the LiveKit server"
    )
    livekit_secret: str = Field(
        repr=False, validation_alias="LIVEKIT_API_SECRET", description="the API secret of the LiveKit server"
    )
    openai_key: str = Field(
        default="", repr=False, validation_alias="OPENAI_API_KEY", description="the API key of OpenAI"
    )
    tavus_key: str = Field(default="", repr=False, validation_alias="TAVUS_API_KEY", description="the API key of Tavus")
    port: Port = Field(
        default=WORKER_PORT, validation_alias=PORT_VARIABLE, description="port of the worker's HTTP endpoints"
    )


class WorkerSettings(WorkerEnvironment):
    """A worker's environment and configuration."""

    config: WorkerConfig
    stage_keys: Mapping[str, str] = Field(default_factory=dict, repr=False)
    """The keys that stages and fallbacks have of their own, by environment variable."""


def load_settings(environment: Mapping[str, str] = os.environ) -> WorkerSettings:
    """Load environment and configuration; raises SettingsError when anything is missing or invalid."""
    loaded = load(WorkerEnvironment, environment)
    config = load_config(loaded.config_file)
    if config.avatar.provider is AvatarProvider.TAVUS and not loaded.tavus_key:
        raise SettingsError("TAVUS_API_KEY is not set: set it to the API key of Tavus, the agent's avatar provider")
    missing = [name for name in config.header_variables if not environment.get(name)]
    if missing:
        raise SettingsError(f"{missing[0]} is not set: set it to the value of the header of a tool or of traces")
    if config.report is not None:
        _check_signing_key(environment.get(REPORT_KEY_VARIABLE, ""))
    if config.voice.uses_common and not loaded.openai_key:
        raise SettingsError("OPENAI_API_KEY is not set: set it to the API key of OpenAI")
    keys = {}
    for entry in config.voice.entries():
        if entry.provider.credentials_secret_ref is None:
            continue
        keys[entry.key_variable] = environment.get(entry.key_variable, "").strip()
        if not keys[entry.key_variable]:
            raise SettingsError(f"{entry.key_variable} is not set: set it to the API key of {entry.field}")
    return WorkerSettings(config=config, stage_keys=keys, **dict(loaded))


def _check_signing_key(text: str) -> None:
    try:
        decode_key(text)
    except ValueError as error:
        raise SettingsError(f"{REPORT_KEY_VARIABLE} {error}: set it to {KEY_HINT}") from error


def secret_values(config: WorkerConfig, environment: Mapping[str, str] = os.environ) -> Iterator[str]:
    """Yield the values that no log line may contain; of one with several words, such as `Bearer abc`, also the last."""
    for name in (*SECRET_VARIABLES, *config.secret_variables, *config.header_variables):
        value = environment.get(name, "")
        yield value
        yield value.rpartition(" ")[2]


def clean_environment(environment: MutableMapping[str, str]) -> None:
    """Prepare the environment that the SDK, its plugins and the call processes read.

    Removes variables that contradict the configuration, and blanks around credentials: a Secret created from a file
    ends with a newline, and with it in a key every request of a call fails before it is sent.
    """
    for name in SDK_VARIABLES:
        environment.pop(name, None)
    for name in SECRET_VARIABLES:
        if name in environment:
            environment[name] = environment[name].strip()


def load_config(path: Path) -> WorkerConfig:
    """Read and check the configuration document; raises SettingsError, whose one line names the field at fault."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"cannot read the configuration {path}: {error.strerror}") from error
    if len(text) > _MAX_CONFIG_BYTES:
        raise SettingsError(f"the configuration {path} is larger than {_MAX_CONFIG_BYTES} bytes")
    try:
        config = read(WorkerConfig, text)
    except ValidationError as error:
        raise SettingsError(f"the configuration {path} is not valid: {_first_fault(error)}") from error
    fault = _fault(config)
    if fault:
        raise SettingsError(f"the configuration {path} is not valid: {fault}")
    return config


def _fault(config: WorkerConfig) -> str:
    """Return what the types allow and a worker cannot do; an empty string if there is nothing."""
    try:
        compile_pattern(config.room_name_pattern)
    except RoomPatternInvalid as error:
        return f"roomNamePattern cannot be used: {error}"
    if config.dispatch_mode == "Explicit" and not config.agent_name:
        return "agentName is empty: explicit dispatch needs a name"
    if config.avatar.provider is AvatarProvider.TAVUS and config.avatar.tavus is None:
        return "avatar.tavus is missing: provider Tavus needs faceID and palID"
    if config.avatar.provider is AvatarProvider.PLUGIN and config.avatar.plugin is None:
        return "avatar.plugin is missing: provider Plugin needs the plugin's name"
    if not config.livekit_url.startswith(("ws://", "wss://")):
        return "livekitURL must begin with ws:// or wss://"
    if config.calls_per_worker < 1 or config.max_call_minutes < 1:
        return "callsPerWorker and maxCallMinutes must be at least 1"
    return ""


def _first_fault(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
