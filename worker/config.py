"""What a worker is told at start: its configuration document and its credentials. Read once, then frozen."""

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from agentspec import AvatarProvider
from agentspec.names import WORKER_PORT
from agentspec.roompattern import RoomPatternInvalid, compiled
from agentspec.workerconfig import CONFIG_PATH, WorkerConfig

CONFIG_VARIABLE = "AVATAR_AGENT_CONFIG"
"""Environment variable that names another configuration file. Call processes find the file by it too."""
PORT_VARIABLE = "AVATAR_AGENT_PORT"
"""Environment variable that names another port for the worker's HTTP endpoints."""

_MAX_CONFIG_BYTES = 4 * 1024 * 1024

SECRET_VARIABLES = ("LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "OPENAI_API_KEY", "TAVUS_API_KEY")
"""Environment variables whose values never appear in a log line."""

FOREIGN_VARIABLES = (
    "LIVEKIT_AGENT_NAME",
    "LIVEKIT_AGENT_NAME_OVERRIDE",
    "LIVEKIT_AGENT_DEPLOYMENT",
    "LIVEKIT_WORKER_TOKEN",
    "LIVEKIT_INFERENCE_URL",
)
"""Variables by which the SDK would register otherwise than the configuration says; a worker removes them."""


class ConfigError(Exception):
    """The worker cannot start as it is configured. The message is one line, for a person."""


@dataclass(frozen=True)
class Settings:
    """A worker's configuration and credentials."""

    config: WorkerConfig
    livekit_key: str = field(repr=False)
    livekit_secret: str = field(repr=False)
    openai_key: str = field(repr=False)
    tavus_key: str = field(repr=False)
    port: int


def load_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the configuration file and the credentials; raises ConfigError when anything is missing or wrong."""
    config = load_config(Path(environment.get(CONFIG_VARIABLE) or CONFIG_PATH))
    wanted = ["LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "OPENAI_API_KEY"]
    if config.avatar.provider is AvatarProvider.TAVUS:
        wanted.append("TAVUS_API_KEY")
    missing = [name for name in wanted if not environment.get(name, "").strip()]
    if missing:
        raise ConfigError(f"missing credentials in the environment: {', '.join(missing)}")
    return Settings(
        config=config,
        livekit_key=environment["LIVEKIT_API_KEY"].strip(),
        livekit_secret=environment["LIVEKIT_API_SECRET"].strip(),
        openai_key=environment["OPENAI_API_KEY"].strip(),
        tavus_key=environment.get("TAVUS_API_KEY", "").strip(),
        port=_port(environment.get(PORT_VARIABLE, "")),
    )


def clean_environment(environment: MutableMapping[str, str]) -> None:
    """Leave for the SDK, the plugins and the call processes what the configuration means, and nothing else.

    A Secret made from a file ends with a newline; with it in a key every request of a call fails before it is sent.
    """
    for name in FOREIGN_VARIABLES:
        environment.pop(name, None)
    for name in SECRET_VARIABLES:
        if name in environment:
            environment[name] = environment[name].strip()


def load_config(path: Path) -> WorkerConfig:
    """Read and check the configuration document; raises ConfigError with one line that says what is wrong where."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    if len(text) > _MAX_CONFIG_BYTES:
        raise ConfigError(f"the configuration {path} is larger than {_MAX_CONFIG_BYTES} bytes")
    try:
        config = WorkerConfig.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(f"the configuration {path} is not valid: {_first_problem(error)}") from error
    _check(config, path)
    return config


def _check(config: WorkerConfig, path: Path) -> None:
    """Refuse what the types allow and a worker cannot do."""
    problem = ""
    try:
        compiled(config.room_name_pattern)
    except RoomPatternInvalid as error:
        problem = f"roomNamePattern cannot be used: {error}"
    if config.dispatch_mode == "Explicit" and not config.agent_name:
        problem = "agentName is empty: explicit dispatch needs a name"
    if config.avatar.provider is AvatarProvider.TAVUS and config.avatar.tavus is None:
        problem = "avatar.tavus is missing: provider Tavus needs faceID and palID"
    if not config.livekit_url.startswith(("ws://", "wss://")):
        problem = "livekitURL must begin with ws:// or wss://"
    if config.calls_per_worker < 1 or config.max_call_minutes < 1:
        problem = "callsPerWorker and maxCallMinutes must be at least 1"
    if problem:
        raise ConfigError(f"the configuration {path} is not valid: {problem}")


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


def _port(text: str) -> int:
    if not text:
        return WORKER_PORT
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ConfigError(f"{PORT_VARIABLE} must be a port number, not {text[:20]!r}")
    return int(text)
