"""Settings, keys and faults of a simulated provider."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from aiohttp import web

from devkit.providers.simulator import (
    HTTP_FAULTS,
    Fault,
    FaultKind,
    Provider,
    Settings,
    SettingsError,
    parse_settings,
    read_key,
)


class Parrot(Provider[Settings]):
    name = "parrot"
    endpoints = frozenset({"speak", "listen"})
    fault_kinds = HTTP_FAULTS
    settings_type = Settings

    def endpoint_of(self, request: web.Request) -> str | None:
        return request.path.strip("/")

    def key_in(self, request: web.Request) -> str | None:
        return request.headers.get("key")

    def refusal(self, kind: FaultKind, sent_key: str | None) -> Mapping[str, object]:
        return {"no": kind.value}


def parrot(*faults: Fault) -> Parrot:
    return Parrot("a key", Settings(faults=faults))


def test_fault_happens_the_given_number_of_times() -> None:
    bird = parrot(Fault(kind=FaultKind.SERVER_ERROR, times=2))
    kinds = [fault and fault.kind for fault in (bird.take_fault("speak", HTTP_FAULTS) for _ in range(3))]
    assert kinds == [FaultKind.SERVER_ERROR, FaultKind.SERVER_ERROR, None]


def test_fault_without_a_number_happens_always() -> None:
    bird = parrot(Fault(kind=FaultKind.STALL))
    assert all(bird.take_fault("listen", HTTP_FAULTS) for _ in range(5))


def test_fault_affects_only_its_endpoints() -> None:
    bird = parrot(Fault(kind=FaultKind.RATE_LIMITED, endpoints=("listen",)))
    assert bird.take_fault("speak", HTTP_FAULTS) is None
    assert bird.take_fault("listen", HTTP_FAULTS) is not None


def test_next_fault_follows_when_the_first_is_used_up() -> None:
    bird = parrot(Fault(kind=FaultKind.SERVER_ERROR, times=1), Fault(kind=FaultKind.RATE_LIMITED, times=1))
    kinds = [fault and fault.kind for fault in (bird.take_fault("speak", HTTP_FAULTS) for _ in range(3))]
    assert kinds == [FaultKind.SERVER_ERROR, FaultKind.RATE_LIMITED, None]


def test_new_settings_reset_the_counts() -> None:
    bird = parrot(Fault(kind=FaultKind.SERVER_ERROR, times=1))
    assert bird.take_fault("speak", HTTP_FAULTS)
    bird.configure(bird.settings)
    assert bird.take_fault("speak", HTTP_FAULTS)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(kind=FaultKind.NEVER_JOINS), "parrot has no fault 'never_joins': use 401, 429, 500, slow, stall"),
        (Fault(kind=FaultKind.STALL, endpoints=("fly",)), "parrot has no endpoint fly: use listen, speak"),
    ],
)
def test_unsupported_fault_is_rejected_and_changes_nothing(fault: Fault, reason: str) -> None:
    bird = parrot()
    with pytest.raises(SettingsError, match=reason):
        bird.configure(Settings(faults=(fault,)))
    assert bird.settings == Settings()


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("{", "Invalid JSON"),
        ("[]", "should be an object"),
        ('{"latency": 5}', "latency: Extra inputs"),
        ('{"latency_ms": -1}', "latency_ms: .*greater than or equal to 0"),
        ('{"latency_ms": "soon"}', "latency_ms: .*integer"),
        ('{"faults": [{"kind": "418"}]}', "faults.0.kind"),
        ('{"faults": [{"kind": "500", "times": 0}]}', "faults.0.times"),
        ('{"faults": [{"kind": "429", "retry_after_seconds": 99999}]}', "faults.0.retry_after_seconds"),
    ],
)
def test_invalid_settings_are_rejected_with_field_and_reason(document: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        parse_settings(document, Settings)


def test_settings_are_parsed() -> None:
    document = '{"latency_ms": 20, "faults": [{"kind": "429", "endpoints": ["speak"], "times": 3}]}'
    fault = Fault(kind=FaultKind.RATE_LIMITED, endpoints=("speak",), times=3)
    assert parse_settings(document, Settings) == Settings(latency_ms=20, faults=(fault,))


def test_only_the_whole_key_is_accepted() -> None:
    bird = parrot()
    assert bird.accepts("a key")
    assert not bird.accepts("a ke")
    assert not bird.accepts("")
    assert not bird.accepts(None)


def test_keys_in_settings_replace_the_initial_key() -> None:
    bird = parrot()
    bird.configure(Settings.model_validate({"api_keys": ["old", "new"]}))
    assert bird.accepts("old")
    assert bird.accepts("new")
    assert not bird.accepts("a key")


def test_key_file_must_contain_a_key(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with pytest.raises(SettingsError, match="cannot read"):
        read_key(path)
    path.write_text("\n")
    with pytest.raises(SettingsError, match="is empty"):
        read_key(path)
    path.write_text("secret\n")
    assert read_key(path) == "secret"
