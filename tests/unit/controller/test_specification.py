"""Invalid specs, and the messages about them."""

import pytest

from agentspec import AvatarAgentSpec, ConditionStatus, Reason
from controller.policy.specification import (
    caller_url_warning,
    language_fault,
    read_spec,
    room_pattern_fault,
    room_pattern_warning,
    spec_faults,
    time_zone_fault,
)
from controller.policy.verdict import Verdict
from tests.unit.controller.builders import SPEC, spec


def test_valid_spec_is_parsed() -> None:
    assert isinstance(read_spec("ava", SPEC), AvatarAgentSpec)


@pytest.mark.parametrize(
    ("name", "changes", "text"),
    [
        pytest.param("ava", {"livekit": {}}, "spec.livekit.url: Field required", id="a missing field"),
        pytest.param("ava", {"langauge": "ar"}, "spec.langauge", id="an unknown field"),
        pytest.param("a" * 64, {}, "the maximum is 63", id="a name too long for a label"),
    ],
)
def test_invalid_spec_is_rejected_by_field(name: str, changes: dict[str, object], text: str) -> None:
    verdict = read_spec(name, {**SPEC, **changes})
    assert isinstance(verdict, Verdict)
    assert (verdict.status, verdict.reason) == (ConditionStatus.FALSE, Reason.INVALID_SPEC)
    assert text in verdict.message


def test_long_list_of_faults_is_cut() -> None:
    verdict = read_spec("ava", {**SPEC, **{f"field{number}": number for number in range(5000)}})
    assert isinstance(verdict, Verdict)
    assert "spec.field0: " in verdict.message
    assert len(verdict.message) < 1200
    assert verdict.message.endswith("Correct the manifest and apply it again.")


def test_invalid_room_pattern_is_reported_by_field() -> None:
    fault = room_pattern_fault(spec(dispatch={"roomNamePattern": "^calls-("}))
    assert fault is not None
    assert (fault.status, fault.reason) == (ConditionStatus.FALSE, Reason.INVALID_SPEC)
    assert "spec.dispatch.roomNamePattern: '^calls-(' is invalid" in fault.message


@pytest.mark.parametrize("pattern", ["", "^calls-"])
def test_valid_room_pattern_has_no_fault(pattern: str) -> None:
    assert room_pattern_fault(spec(dispatch={"roomNamePattern": pattern})) is None


@pytest.mark.parametrize("pattern", ["ornina-*", "ornina-", "^desk$", "^ornina-[a-z]+-.*", "^calls-(?=z)"])
def test_pattern_unusable_by_the_gateway_is_a_warning(pattern: str) -> None:
    declared = spec(dispatch={"roomNamePattern": pattern})
    assert room_pattern_fault(declared) is None
    warning = room_pattern_warning(declared)
    assert warning.startswith(
        "Warning: the gateway cannot take calls for this agent. spec.dispatch.roomNamePattern is "
    )
    assert f"roomNamePattern is {pattern!r}, and " in warning
    assert "begin the pattern with ^ and a literal prefix and leave the end open" in warning


@pytest.mark.parametrize("pattern", [".*", "", "(?i)^x", "^ornina-", "^ornina-.*", "^ornina-[0-9a-f]+$"])
def test_pattern_usable_by_the_gateway_has_no_warning(pattern: str) -> None:
    assert room_pattern_warning(spec(dispatch={"roomNamePattern": pattern})) == ""


def test_automatic_agent_has_no_pattern_warning() -> None:
    assert room_pattern_warning(spec(dispatch={"mode": "Automatic", "roomNamePattern": "^desk$"})) == ""


@pytest.mark.parametrize(
    ("urls", "field"),
    [
        ({"url": "ws://10.0.0.5:7880"}, "url"),
        ({"url": "wss://livekit.svc:7880", "publicURL": "ws://voice.example"}, "publicURL"),
        ({"url": "ws://livekit.svc:7880", "publicURL": "wss://voice.example"}, ""),
        ({"url": "wss://livekit.example"}, ""),
        ({"url": "ws://localhost:7880"}, ""),
        ({"url": "ws://127.0.0.1:7880"}, ""),
        ({"url": "ws://[::1]:7880"}, ""),
    ],
    ids=[
        "one address",
        "public address",
        "public address with TLS",
        "TLS",
        "localhost",
        "IPv4 loopback",
        "IPv6 loopback",
    ],
)
def test_address_that_https_pages_refuse_is_a_warning(urls: dict[str, str], field: str) -> None:
    warning = caller_url_warning(spec(livekit={"credentialsSecretRef": {"name": "livekit"}, **urls}))
    assert bool(warning) == bool(field)
    assert not field or f"refuse spec.livekit.{field}, because it is ws://" in warning


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "Europe", "../etc/passwd"])
def test_unknown_time_zone_is_reported(zone: str) -> None:
    fault = time_zone_fault(spec().model_copy(update={"time_zone": zone}))
    assert fault is not None and fault.reason is Reason.INVALID_SPEC
    assert f"spec.timeZone: {zone!r} is no time zone" in fault.message


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"])
def test_known_time_zone_has_no_fault(zone: str | None) -> None:
    assert time_zone_fault(spec(timeZone=zone)) is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"language": "xx"}, "spec.language: whisper-1"), ({"languages": ["fr", "ug"]}, "spec.languages: whisper-1")],
)
def test_language_that_the_model_cannot_hear_is_refused_with_the_list(changes: dict[str, object], field: str) -> None:
    fault = language_fault(spec(**changes))
    assert fault is not None and fault.reason is Reason.INVALID_SPEC
    assert fault.message.startswith(field)
    assert "Set one of af, am, ar, " in fault.message


@pytest.mark.parametrize("language", ["ar", "nb", "iw", "pt-BR", "jv"])
def test_language_with_another_name_is_no_fault(language: str) -> None:
    assert language_fault(spec(language=language)) is None


def test_models_of_others_hear_what_they_hear() -> None:
    voice = {**SPEC["voice"], "stt": {"model": "our-own-model"}}
    assert language_fault(spec(voice=voice, language="xx")) is None


def test_fallback_that_cannot_hear_a_language_is_named() -> None:
    stt = {"provider": "Plugin", "plugin": "deepgram", "fallbacks": [{"model": "own"}, {"model": "gpt-4o-transcribe"}]}
    fault = language_fault(spec(voice={**SPEC["voice"], "stt": stt}, languages=["zu"]))
    assert fault is not None
    assert fault.message.startswith("spec.languages: gpt-4o-transcribe does not know 'zu'.")
    assert fault.message.endswith("or set another model in spec.voice.stt.fallbacks[1].model.")


def test_realtime_model_transcribes_by_openai() -> None:
    fault = language_fault(spec(voice={**SPEC["voice"], "realtime": {}}, language="zu"))
    assert fault is not None
    assert fault.message.startswith("spec.language: the transcription of spec.voice.realtime does not know 'zu'.")
    assert fault.message.endswith("or set spec.voice.stt and spec.voice.llm in its place.")


def test_every_fault_of_a_spec_is_listed() -> None:
    assert spec_faults(spec()) == []
    faults = spec_faults(spec(dispatch={"roomNamePattern": "("}, timeZone="Europe/Berln", languages=["zu"]))
    assert [fault.message.split(":")[0] for fault in faults] == [
        "spec.dispatch.roomNamePattern",
        "spec.timeZone",
        "spec.languages",
    ]
