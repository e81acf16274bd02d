"""What is said about specs that cannot be used."""

import pytest

from agentspec import AvatarAgentSpec, ConditionStatus, Reason
from controller.policy.specification import read_spec, room_pattern_fault, room_pattern_warning
from controller.policy.verdict import Verdict
from tests.unit.controller.builders import SPEC, spec


def test_a_good_spec_is_read() -> None:
    assert isinstance(read_spec("ava", SPEC), AvatarAgentSpec)


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        pytest.param("ava", {"voice": {}}, "spec.voice.openai: Field required", id="what the schema would have caught"),
        pytest.param("ava", {"langauge": "ar"}, "spec.langauge", id="a field of another release"),
        pytest.param("a" * 64, {}, "the maximum is 63", id="a name that no label can hold"),
    ],
)
def test_a_bad_spec_is_refused_by_field(name: str, changes: dict[str, object], told: str) -> None:
    verdict = read_spec(name, {**SPEC, **changes})
    assert isinstance(verdict, Verdict)
    assert (verdict.status, verdict.reason) == (ConditionStatus.FALSE, Reason.INVALID_SPEC)
    assert told in verdict.message


def test_of_very_many_faults_only_the_first_are_told() -> None:
    verdict = read_spec("ava", {**SPEC, **{f"field{number}": number for number in range(5000)}})
    assert isinstance(verdict, Verdict)
    assert "spec.field0: " in verdict.message
    assert len(verdict.message) < 1200
    assert verdict.message.endswith("Correct the manifest and apply it again.")


def test_a_pattern_that_is_no_expression_leaves_the_rest_readable_and_is_told_by_field() -> None:
    fault = room_pattern_fault(spec(dispatch={"roomNamePattern": "^calls-("}))
    assert fault is not None
    assert (fault.status, fault.reason) == (ConditionStatus.FALSE, Reason.INVALID_SPEC)
    assert "spec.dispatch.roomNamePattern: '^calls-(' is invalid" in fault.message


@pytest.mark.parametrize("pattern", ["", "^calls-"])
def test_a_good_pattern_has_no_fault(pattern: str) -> None:
    assert room_pattern_fault(spec(dispatch={"roomNamePattern": pattern})) is None


@pytest.mark.parametrize("pattern", ["ornina-*", "ornina-", "^desk$", "^ornina-[a-z]+-.*", "^calls-(?=z)"])
def test_a_pattern_that_only_the_gateway_cannot_serve_is_no_fault_and_remarked(pattern: str) -> None:
    given = spec(dispatch={"roomNamePattern": pattern})
    assert room_pattern_fault(given) is None
    said = room_pattern_warning(given)
    assert said.startswith("Warning: the gateway cannot take calls for this agent. spec.dispatch.roomNamePattern is ")
    assert f"roomNamePattern is {pattern!r}, and " in said
    assert "begin the pattern with ^ and a literal prefix and leave the end open" in said


@pytest.mark.parametrize("pattern", [".*", "", "(?i)^x", "^ornina-", "^ornina-.*", "^ornina-[0-9a-f]+$"])
def test_a_pattern_that_the_gateway_can_serve_is_not_remarked(pattern: str) -> None:
    assert room_pattern_warning(spec(dispatch={"roomNamePattern": pattern})) == ""


def test_of_an_agent_that_the_gateway_does_not_serve_nothing_is_remarked() -> None:
    assert room_pattern_warning(spec(dispatch={"mode": "Automatic", "roomNamePattern": "^desk$"})) == ""
