"""The AvatarAgents as last seen, who claims which name, and who has something to do when that changes."""

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
    """Whose claims stand."""
    claims = [agent.claim for agent in agents.all()]
    return {claim.key for claim in claims if claim is not None and agents.holder(claim) is None}


def test_a_new_agent_has_something_to_do() -> None:
    agents = Agents()
    assert agents.update(document()) == {ONE}
    seen = agents.get(ONE)
    assert seen is not None
    assert isinstance(seen.spec, AvatarAgentSpec)
    assert (seen.uid, seen.version, seen.generation, seen.deleted) == ("uid-one", 1, 1, False)
    assert list(agents.all()) == [seen]


@pytest.mark.parametrize(
    ("changes", "concerned"),
    [
        pytest.param({}, set(), id="labels or annotations"),
        pytest.param({"generation": 2, "language": "ar"}, {ONE}, id="another spec"),
        pytest.param({"uid": "uid-9"}, {ONE}, id="deleted and made anew"),
        pytest.param({"deleted": True}, {ONE}, id="its deletion begins"),
        pytest.param({"status": {"agentName": "x"}}, {ONE}, id="somebody wrote into its status"),
    ],
)
def test_what_matters_of_a_change(changes: dict[str, Any], concerned: set[Key]) -> None:
    agents = Agents()
    agents.update(document())
    assert agents.update(document(version=2, **changes)) == concerned
    assert agents.update(document(version=2, **changes)) == set(), "told once"


def test_what_the_controller_wrote_itself_comes_back_and_queues_nothing() -> None:
    agents = Agents()
    agents.update(document())
    answer = document(version=2, status={"agentName": "one"})
    agents.update(answer)  # the answer to the write
    assert agents.update(answer) == set(), "and then the watch"
    assert agents.update(document(version=1)) == set(), "an older version never counts"
    seen = agents.get(ONE)
    assert seen is not None
    assert seen.status == {"agentName": "one"}


def test_a_spec_is_read_once_a_generation(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_spec_that_cannot_be_used_claims_no_name() -> None:
    agents = Agents()
    agents.update(document(livekit={"url": "nowhere"}))
    seen = agents.get(ONE)
    assert seen is not None
    assert isinstance(seen.spec, Verdict)
    assert (seen.spec.reason, seen.claim) == (Reason.INVALID_SPEC, None)
    assert agents.update(document(TWO, created="2026-03-01T00:00:00Z", agentName="one")) == {TWO}
    assert holders(agents) == {TWO}


def test_of_two_that_want_one_name_the_older_has_it_and_both_are_told() -> None:
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
        pytest.param(lambda agents: agents.remove(ONE, f"uid-{ONE.name}"), id="it is gone"),
        pytest.param(lambda agents: agents.update(document(ONE, 2, deleted=True, agentName="desk")), id="it is going"),
        pytest.param(lambda agents: agents.update(document(ONE, 2, 2, agentName="other")), id="it took another name"),
        pytest.param(
            lambda agents: agents.update(document(ONE, 2, 2, agentName="desk", dispatch={"mode": "Automatic"})),
            id="its dispatch needs no name",
        ),
        pytest.param(
            lambda agents: agents.update(
                document(ONE, 2, 2, agentName="desk", livekit={**SPEC["livekit"], "url": "wss://elsewhere.example"})
            ),
            id="it moved to another server",
        ),
        pytest.param(
            lambda agents: agents.update(document(ONE, 2, 2, agentName="desk", livekit={"url": "nowhere"})),
            id="its manifest became unusable",
        ),
    ],
)
def test_a_name_that_becomes_free_is_the_next_ones_and_it_is_told(
    release: Callable[[Agents], set[Key]],
) -> None:
    agents = Agents()
    agents.update(document(ONE, agentName="desk"))
    agents.update(document(TWO, created="2026-01-02T00:00:00Z", agentName="desk"))
    assert release(agents) == {ONE, TWO}
    assert TWO in holders(agents)


def test_names_on_different_servers_are_different_names() -> None:
    agents = Agents()
    agents.update(document(ONE, agentName="desk", livekit={**SPEC["livekit"], "url": "ws://livekit:7880"}))
    elsewhere = document(THREE, agentName="desk", livekit={**SPEC["livekit"], "url": "ws://livekit:7880"})
    assert agents.update(elsewhere) == {THREE}, "the same word in another namespace is another server"
    assert holders(agents) == {ONE, THREE}


def test_automatic_dispatch_is_one_claim_for_each_server() -> None:
    agents = Agents()
    agents.update(document(ONE, dispatch={"mode": "Automatic"}))
    assert agents.update(document(TWO, dispatch={"mode": "Automatic"})) == {ONE, TWO}
    assert holders(agents) == {ONE}


def test_an_agent_that_nobody_knows_can_be_lost() -> None:
    assert Agents().remove(ONE, "uid-1") == {ONE}


def test_the_end_of_an_agent_is_not_that_of_its_successor() -> None:
    agents = Agents()
    agents.update(document(ONE, uid="uid-new"))
    assert agents.remove(ONE, "uid-old") == set()
    assert agents.get(ONE) is not None


def test_an_answer_that_comes_after_the_end_brings_no_ghost_back() -> None:
    agents = Agents()
    written = document(ONE)
    agents.update(written)
    agents.remove(ONE, written["metadata"]["uid"])
    assert agents.update_from_response(document(ONE, 2)) == set()
    assert agents.get(ONE) is None


def test_agents_of_a_namespace() -> None:
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
def test_whatever_happens_exactly_one_holds_a_name_and_who_wins_or_loses_it_is_told(
    happenings: Sequence[tuple[Key, str, str]],
) -> None:
    agents = Agents()
    for version, (key, name, created) in enumerate(happenings, start=1):
        before = holders(agents)
        if name == "gone":
            there = agents.get(key)
            concerned = agents.remove(key, "" if there is None else there.uid)
        else:
            concerned = agents.update(
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
        assert before ^ after <= concerned, "who has to start or to stop is told"
        claims = [agent.claim for agent in agents.all() if agent.claim is not None]
        for wanted in {claim.name for claim in claims}:
            rivals = {claim.key for claim in claims if claim.name == wanted}
            assert len(rivals & after) == 1
