"""An avatar of any provider that livekit-agents has a plugin for: ``livekit.plugins.NAME.AvatarSession`` in the image.

The plugin requests the avatar. Nothing is known of the provider's own API: no list of open avatars, and no way to end
one but to remove its participant from the room, which `AvatarSession.aclose` does.
"""

import asyncio
import inspect
import logging
import os
from collections.abc import Mapping
from typing import Any, Final

from livekit import rtc
from livekit.agents import AgentSession, APIError, APIStatusError, utils
from livekit.agents.voice.avatar import AvatarSession

from agentspec import AvatarPluginSpec, AvatarProvider
from agentspec.names import AVATAR_KEY_VARIABLE
from agentspec.wire import WorkerConfig
from worker import isolated, plugins
from worker.call.avatar_seat import WorkerSeat
from worker.config import SECRET_VARIABLES
from worker.plugins import PluginError

logger = logging.getLogger(__name__)

CHECK_SECONDS: Final = 60.0
"""How long importing a plugin and creating its session may take together."""
_FAILURE_VARIABLE: Final = "AVATAR_AGENT_AVATAR_FAILURE"
"""Environment variable by which the main process tells call processes why the plugin cannot be used."""
_CLASS: Final = "AvatarSession"
_KEY: Final = "api_key"
_REMEDIES: Final = {
    401: "check the API key",
    402: "check the account's balance",
    403: "check the API key",
    404: "check the ids in avatar.plugin.options",
    429: "too many requests, or no free seat",
}
_MAX_FAILURE_LENGTH: Final = 800


class PluginAvatar:
    """One call's avatar at the provider of a plugin."""

    def __init__(self, spec: AvatarPluginSpec, seat: WorkerSeat, livekit_url: str) -> None:
        """`livekit_url` is the address at which the provider reaches LiveKit."""
        self._spec = spec
        self._seat = seat
        self._livekit_url = livekit_url
        self._avatar: AvatarSession[Any] | None = None

    @property
    def provider(self) -> str:
        """Name of the plugin."""
        return self._spec.name

    @property
    def identity(self) -> str:
        """Identity of the avatar's participant in the room; empty before `start`."""
        return self._avatar.avatar_identity if self._avatar is not None else ""

    async def has_seat(self) -> bool:
        """Return whether a seat is free, by the worker's own calls."""
        return self._seat.is_free()

    async def start(self, session: AgentSession[None], room: rtc.Room) -> None:
        """Create the plugin's session, and start it."""
        if failure := known_failure():
            raise PluginError(failure)
        self._avatar = avatar = make(self._spec, os.environ.get(AVATAR_KEY_VARIABLE, ""))
        options: dict[str, Any] = {"livekit_url": self._livekit_url} if _takes_url(avatar) else {}
        try:
            await avatar.start(session, room, **options)
        except APIError:  # its text quotes the provider's answer
            raise
        except Exception:
            logger.warning("avatar plugin failed", exc_info=True)
            raise
        if avatar.avatar_identity == room.local_participant.identity:
            raise PluginError("it renders within the worker; use one whose avatar joins the room as a participant")

    async def keeps_seat(self) -> bool:
        """Return True: the worker's calls have their seats in the order in which they were accepted."""
        return True

    async def wait_for_join(self, *, timeout: float) -> None:  # noqa: ASYNC109 - the SDK's parameter
        """Wait until the avatar has joined and published its video."""
        assert self._avatar is not None
        await self._avatar.wait_for_join(timeout=timeout)

    async def end(self) -> bool:
        """Return True: `aclose` removes the avatar from the room, and nothing else is known of it."""
        return True

    async def aclose(self) -> None:
        """Close the plugin's session, which removes the avatar from the room."""
        if self._avatar is not None:
            await self._avatar.aclose()

    def refusal(self, error: BaseException) -> str:
        """Return why the avatar did not start, without the provider's answer."""
        if isinstance(error, PluginError):
            return f"avatar plugin {self._spec.name}: {error}"
        if isinstance(error, APIStatusError):
            remedy = _REMEDIES.get(error.status_code, "see the provider's status page")
            return f"{self._spec.name} answered HTTP {error.status_code}: {remedy}"
        return f"avatar plugin {self._spec.name} failed: {type(error).__name__}, see the worker's log"


def make(spec: AvatarPluginSpec, key: str) -> AvatarSession[Any]:
    """Create the plugin's session; raises PluginError, and whatever the plugin raises.

    Call it in an event loop with an HTTP context: in a job, or in ``utils.http_context.open()``.
    """
    kind = plugins.find(spec.name, _CLASS)
    if not issubclass(kind, AvatarSession):
        raise PluginError(f"{plugins.name_of(kind)} is no livekit.agents.voice.avatar.AvatarSession")
    if _KEY in spec.options:
        raise PluginError(f"{_KEY} is a secret: set credentialsSecretRef instead")
    session: AvatarSession[Any] = kind(**plugins.arguments(kind, _with_key(kind, spec, key)))
    return session


def _with_key(kind: type[Any], spec: AvatarPluginSpec, key: str) -> Mapping[str, Any]:
    """Return the options with the API key: as an option of its own, or in the one object that has such a field."""
    if spec.credentials_secret_ref is None:
        return spec.options
    if plugins.takes(kind, _KEY):
        return {**spec.options, _KEY: key}
    name = plugins.option_with_field(kind, _KEY)
    if name is None:
        raise PluginError(
            f"{plugins.name_of(kind)} takes no {_KEY}: remove credentialsSecretRef, and set the variables that the "
            "plugin reads in worker.env"
        )
    inner = spec.options.get(name, {})
    return {**spec.options, name: {**inner, _KEY: key} if isinstance(inner, Mapping) else inner}


def check(config: WorkerConfig) -> None:
    """Find out whether the declared plugin can be used; `known_failure` returns the result, also in call processes.

    Creates a session in another process. Call this while the process has no thread and no event loop. Does nothing for
    an agent without a plugin.
    """
    spec, key = config.avatar.plugin, os.environ.get(AVATAR_KEY_VARIABLE, "")
    if config.avatar.provider is not AvatarProvider.PLUGIN or spec is None:
        return
    failure = _readable(isolated.failure_of(lambda: _failure(spec, key), CHECK_SECONDS), config)
    if failure:
        logger.error("avatar plugin cannot be used, calls continue without it", extra={"error": failure})
        os.environ[_FAILURE_VARIABLE] = failure


def _readable(failure: str, config: WorkerConfig) -> str:
    """Return a failure on one line, cut, and without the values of secret variables."""
    for name in (*SECRET_VARIABLES, *config.secret_variables):
        if value := os.environ.get(name, ""):
            failure = failure.replace(value, "…")
    printable = "".join(letter if letter.isprintable() else " " for letter in failure)
    return " ".join(printable.split())[:_MAX_FAILURE_LENGTH]


def known_failure() -> str:
    """Return why the declared plugin cannot be used; an empty text when it can, or none is declared."""
    return os.environ.get(_FAILURE_VARIABLE, "")


def preload(config: WorkerConfig) -> None:
    """Import the declared plugin, if `check` found it usable, before a call has to."""
    if config.avatar.provider is AvatarProvider.PLUGIN and config.avatar.plugin is not None and not known_failure():
        plugins.find(config.avatar.plugin.name, _CLASS)


def _failure(spec: AvatarPluginSpec, key: str) -> str:
    async def create() -> None:
        async with utils.http_context.open():
            make(spec, key)

    try:
        asyncio.run(create())
    except PluginError as error:
        return str(error)
    except BaseException as error:
        logger.warning("avatar plugin failed", exc_info=True)
        return f"{plugins.PACKAGE}.{spec.name} raised {type(error).__name__}: {error}"
    return ""


def _takes_url(avatar: AvatarSession[Any]) -> bool:
    """Return whether the session takes LiveKit's address; some plugins read it from elsewhere."""
    parameters = inspect.signature(avatar.start).parameters.values()
    return any(each.name == "livekit_url" or each.kind is each.VAR_KEYWORD for each in parameters)
