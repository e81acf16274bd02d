"""Parses a manifest's spec and checks what the CRD schema cannot check."""

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import ValidationError

from agentspec import AvatarAgentSpec, DispatchMode, Reason
from agentspec.languages import whisper_code, whisper_codes
from agentspec.resource import MAX_NAME_LENGTH
from agentspec.roompattern import RoomPatternInvalid, compile_pattern, room_name_error
from agentspec.voice import StageProvider, VoiceSpec
from controller.policy.verdict import Verdict, false
from controller.policy.wording import LONG_QUOTE_LENGTH, quoted

_OPENAI_TRANSCRIPTION: Final = ("whisper", "gpt-4o-transcribe", "gpt-4o-mini-transcribe")
"""How the names of OpenAI's transcription models begin."""


def read_spec(name: str, raw: Mapping[str, Any]) -> AvatarAgentSpec | Verdict:
    """The typed spec of the resource with this name, or why it is invalid."""
    if len(name) > MAX_NAME_LENGTH:
        return false(
            Reason.INVALID_SPEC,
            f"metadata.name has {len(name)} characters; the maximum is {MAX_NAME_LENGTH}. "
            "Create the resource with a shorter name; spec.agentName may be longer.",
        )
    try:
        return AvatarAgentSpec.model_validate(raw)
    except ValidationError as error:
        faults = [f"spec.{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        listed = quoted("; ".join(faults), LONG_QUOTE_LENGTH)
        return false(Reason.INVALID_SPEC, f"{listed}. Correct the manifest and apply it again.")


def spec_faults(spec: AvatarAgentSpec) -> list[Verdict]:
    """Everything that keeps workers from using a spec that the API server accepts; empty: they can use it."""
    faults = (room_pattern_fault(spec), time_zone_fault(spec), language_fault(spec))
    return [fault for fault in faults if fault is not None]


def room_pattern_fault(spec: AvatarAgentSpec) -> Verdict | None:
    """Why workers cannot use roomNamePattern; None: they can. Running workers continue with the earlier pattern."""
    try:
        compile_pattern(spec.dispatch.room_name_pattern)
    except RoomPatternInvalid as error:
        return false(
            Reason.INVALID_SPEC,
            f"spec.dispatch.roomNamePattern: {spec.dispatch.room_name_pattern!r} is invalid: {error}. "
            "Set a pattern such as '^calls-', or remove the field to accept every room.",
        )
    return None


def time_zone_fault(spec: AvatarAgentSpec) -> Verdict | None:
    """Why workers cannot use the time zone; None: they can."""
    if spec.time_zone is None:
        return None
    try:
        ZoneInfo(spec.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    else:
        return None
    return false(
        Reason.INVALID_SPEC,
        f"spec.timeZone: {quoted(spec.time_zone)!r} is no time zone of the IANA database. Set one such as "
        "Europe/Berlin, or remove the field.",
    )


def language_fault(spec: AvatarAgentSpec) -> Verdict | None:
    """Which language OpenAI's transcription models do not know; None: they know all, or every model is another one.

    They answer a request with an unknown language with HTTP 400, so no caller would be understood.
    """
    declared = [("language", spec.language), *(("languages", language) for language in spec.languages)]
    unknown = [(field, language) for field, language in declared if not whisper_code(language)]
    for field, language in unknown:
        for model, cure in _openai_transcription(spec.voice):
            return false(
                Reason.INVALID_SPEC,
                f"spec.{field}: {model} does not know {language!r}. "
                f"Set one of {', '.join(whisper_codes())}, or {cure}.",
            )
    return None


def _openai_transcription(voice: VoiceSpec) -> Iterator[tuple[str, str]]:
    """Yield OpenAI's transcription models of a voice, fallbacks included, each with how to use another one."""
    if voice.realtime is not None:
        yield "the transcription of spec.voice.realtime", "set spec.voice.stt and spec.voice.llm in its place"
    for entry in voice.entries_of("stt"):
        model = entry.provider.model or ""
        if entry.provider.provider is StageProvider.OPENAI and model.startswith(_OPENAI_TRANSCRIPTION):
            yield model, f"set another model in {entry.field}.model"


def room_pattern_warning(spec: AvatarAgentSpec) -> str:
    """Why the gateway cannot create rooms for the agent, although its workers can serve other rooms; empty: it can.

    This is a warning, not a fault: back ends that dispatch without the gateway choose room names themselves.
    """
    problem = "" if spec.dispatch.mode is DispatchMode.AUTOMATIC else room_name_error(spec.dispatch.room_name_pattern)
    if not problem:
        return ""
    return (
        "Warning: the gateway cannot take calls for this agent. spec.dispatch.roomNamePattern is "
        f"{spec.dispatch.room_name_pattern!r}, and {problem}. The agent still serves rooms from other back ends."
    )


def caller_url_warning(spec: AvatarAgentSpec) -> str:
    """Why browsers may not connect to LiveKit's address for callers; empty: they can.

    This is a warning, not a fault: the gateway's page may be on http, and other clients accept `ws://`.
    """
    url = urlsplit(spec.livekit.caller_url)
    if url.scheme != "ws" or _is_loopback(url.hostname or ""):
        return ""
    field = "publicURL" if spec.livekit.public_url else "url"
    return (
        f"Warning: browsers on https pages refuse spec.livekit.{field}, because it is ws://. "
        "Set spec.livekit.publicURL to a wss:// address of the same server."
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
