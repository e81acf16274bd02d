"""The cache of AvatarAgents: which agent holds a name, and which agents are reconciled after a change."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentspec import AvatarAgentSpec, Reason
from controller.cluster import agents as module
from controller.cluster.agents import Agents
from controller.observation import Key
from controller.policy.specification import read_spec
from controller.policy.verdict import Verdict
from kube.client import Document
from tests.unit.controller.builders import SPEC

ONE, TWO, THREE = Key("shop", "one"), Key("shop", "two"), Key("office", "three")


def document(key: Key = ONE, version: int = 1, generation: int = 1, **changes: Any) -> Document:
    """An AvatarAgent; `changes`: of its spec, or its uid, status, created or deleted."""
    known = {"uid": f"uid-{key.name}", "created": "2026-01-01T00:00:00Z", "deleted": False, "status": {}}
    other = {field: changes.pop(field, value) for field, value in known.items()}
    metadata = {
        "namespace": key.namespace,
        "name": key.name,
        "uid": other["uid"],
        "resourceVersion": str(version),
        "generation": generation,
        "creationTimestamp": other["created"],
        **({"deletionTimestamp": "2026-02-01T00:00:00Z"} if other["deleted"] else {}),
    }
    return {"metadata": metadata, "spec": {**SPEC, **changes}, "status": other["status"]}


def holders(agents: Agents) -> set[Key]:
    """The agents that hold their names."""
    claims = [agent.claim for agent in agents.all()]
    return {claim.key for claim in claims if claim is not None and agents.holder(claim) is None}


def test_new_agent_is_reconciled() -> None:
    agents = Agents()
    assert agents.update(document()) == {ONE}
    seen = agents.get(ONE)
    assert seen is not None
    assert isinstance(seen.spec, AvatarAgentSpec)
    assert (seen.uid, seen.version, seen.generation, seen.deleted) == ("uid-one", 1, 1, False)
    assert list(agents.all()) == [seen]


@pytest.mark.parametrize(
    ("changes", "affected"),
    [
        pytest.param({}, set(), id="labels or annotations"),
        pytest.param({"generation": 2, "language": "ar"}, {ONE}, id="changed spec"),
        pytest.param({"uid": "uid-9"}, {ONE}, id="deleted and created again"),
        pytest.param({"deleted": True}, {ONE}, id="deletion starts"),
        pytest.param({"status": {"agentName": "x"}}, {ONE}, id="another client wrote the status"),
    ],
)
def test_only_relevant_changes_reconcile_the_agent(changes: dict[str, Any], affected: set[Key]) -> None:
    agents = Agents()
    agents.update(document())
    assert agents.update(document(version=2, **changes)) == affected
    assert agents.update(document(version=2, **changes)) == set(), "reported once"


def test_own_status_write_causes_no_reconcile() -> None:
    agents = Agents()
    agents.update(document())
    answer = document(version=2, status={"agentName": "one"})
    agents.update(answer)  # the answer to the write
    assert agents.update(answer) == set(), "and then the watch"
    assert agents.update(document(version=1)) == set(), "an older version never counts"
    seen = agents.get(ONE)
    assert seen is not None
    assert seen.status == {"agentName": "one"}


def test_spec_is_parsed_once_per_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(name: str, raw: Document) -> AvatarAgentSpec | Verdict:
        read.append(name)
        return read_spec(name, raw)

    monkeypatch.setattr(module, "read_spec", counted)
    agents = Agents()
    for version in range(1, 10):
        agents.update(document(version=version, status={"version": version}))
    assert len(read) == 1
    agents.update(document(version=10, generation=2))
    agents.update(document(version=11, generation=2, uid="uid-9"))
    assert len(read) == 3, "a namesake of the same generation is another agent"


def test_invalid_spec_claims_no_name() -> None:
    agents = Agents()
    agents.update(document(livekit={"url": "nowhere"}))
    seen = agents.get(ONE)
    assert seen is not None
    assert isinstance(seen.spec, Verdict)
    assert (seen.spec.reason, seen.claim) == (Reason.INVALID_SPEC, None)
    assert agents.update(document(TWO, created="2026-03-01T00:00:00Z", agentName="one")) == {TWO}
    assert holders(agents) == {TWO}


def test_older_agent_holds_the_name_and_both_are_reconciled() -> None:
    agents = Agents()
    agents.update(document(TWO, created="2026-01-02T00:00:00Z", agentName="desk"))
    assert holders(agents) == {TWO}
    assert agents.update(document(ONE, created="2026-01-01T00:00:00Z", agentName="desk")) == {ONE, TWO}
    assert holders(agents) == {ONE}, "seen later, and older"
    late = agents.get(TWO)
    assert late is not None
    assert late.claim is not None
    older = agents.holder(late.claim)
    assert older is not None
    assert older.key == ONE


@pytest.mark.parametrize(
    "release",
    [
        pytest.param(lambda agents: agents.remove(ONE, f"uid-{ONE.name}"), id="agent deleted"),
        pytest.param(
            lambda agents: agents.update(document(ONE, 2, deleted=True, agentName="desk")), id="deletion started"
        ),
        pytest.param(lambda agents: agents.update(document(ONE, 2, 2, agentName="other")), id="agent renamed"),
        pytest.param(
            lambda agents: agents.update(document(ONE, 2, 2, agentName="desk", dispatch={"mode": "Automatic"})),
            id="dispatch became automatic",
        ),
        pytest.param(
            lambda agents: agents.update(
                document(ONE, 2, 2, agentName="desk", livekit={**SPEC["livekit"], "url": "wss://elsewhere.example"})
            ),
            id="moved to another server",
        ),
        pytest.param(
            lambda agents: agents.update(document(ONE, 2, 2, agentName="desk", livekit={"url": "nowhere"})),
            id="spec became invalid",
        ),
    ],
)
def test_next_agent_gets_a_free_name_and_is_reconciled(
    release: Callable[[Agents], set[Key]],
) -> None:
    agents = Agents()
    agents.update(document(ONE, agentName="desk"))
    agents.update(document(TWO, created="2026-01-02T00:00:00Z", agentName="desk"))
    assert release(agents) == {ONE, TWO}
    assert TWO in holders(agents)


def test_agents_on_different_servers_may_share_a_name() -> None:
    agents = Agents()
    agents.update(document(ONE, agentName="desk", livekit={**SPEC["livekit"], "url": "ws://livekit:7880"}))
    elsewhere = document(THREE, agentName="desk", livekit={**SPEC["livekit"], "url": "ws://livekit:7880"})
    assert agents.update(elsewhere) == {THREE}, "the same word in another namespace is another server"
    assert holders(agents) == {ONE, THREE}


def test_automatic_dispatch_is_one_claim_per_server() -> None:
    agents = Agents()
    agents.update(document(ONE, dispatch={"mode": "Automatic"}))
    assert agents.update(document(TWO, dispatch={"mode": "Automatic"})) == {ONE, TWO}
    assert holders(agents) == {ONE}


def test_unknown_agent_can_be_removed() -> None:
    assert Agents().remove(ONE, "uid-1") == {ONE}


def test_removing_an_agent_keeps_a_newer_one_of_the_same_name() -> None:
    agents = Agents()
    agents.update(document(ONE, uid="uid-new"))
    assert agents.remove(ONE, "uid-old") == set()
    assert agents.get(ONE) is not None


def test_late_write_response_does_not_restore_a_deleted_agent() -> None:
    agents = Agents()
    written = document(ONE)
    agents.update(written)
    agents.remove(ONE, written["metadata"]["uid"])
    assert agents.update_from_response(document(ONE, 2)) == set()
    assert agents.get(ONE) is None


def test_agents_are_found_by_namespace() -> None:
    agents = Agents()
    for key in (ONE, TWO, THREE):
        agents.update(document(key))
    assert set(agents.in_namespace("shop")) == {ONE, TWO}
    assert agents.in_namespace("nowhere") == []


steps = st.tuples(
    st.sampled_from([ONE, TWO, THREE]),
    st.sampled_from(["desk", "hall", "gone", "going"]),
    st.integers(1, 3).map(lambda day: f"2026-01-0{day}T00:00:00Z"),
)


@given(st.lists(steps, max_size=30))
def test_each_name_has_one_holder_and_every_change_reconciles(
    happenings: Sequence[tuple[Key, str, str]],
) -> None:
    agents = Agents()
    for version, (key, name, created) in enumerate(happenings, start=1):
        before = holders(agents)
        if name == "gone":
            there = agents.get(key)
            affected = agents.remove(key, "" if there is None else there.uid)
        else:
            affected = agents.update(
                document(
                    key,
                    version,
                    version,
                    uid=f"{key.name}-{created}",
                    created=created,
                    agentName=name,
                    deleted=name == "going",
                )
            )
        after = holders(agents)
        assert before ^ after <= affected, "every agent that must start or stop is reconciled"
        claims = [agent.claim for agent in agents.all() if agent.claim is not None]
        for wanted in {claim.name for claim in claims}:
            rivals = {claim.key for claim in claims if claim.name == wanted}
            assert len(rivals & after) == 1
