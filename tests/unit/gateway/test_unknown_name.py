"""No call goes out under a name that may be another agent's, whoever knows of free slots."""

from dataclasses import replace

import pytest

from gateway.agents import InvalidAgent
from gateway.calls import Admission
from tests.unit.gateway.fakes import World, agent

KEY = agent().key


@pytest.mark.parametrize(
    ("free", "later"), [(1, Admission.FREE_SLOT), (None, Admission.SLOTS_UNKNOWN)], ids=["slots known", "blind"]
)
async def test_calls_wait_until_the_controller_has_looked_at_the_name(
    there: World, free: int | None, later: Admission
) -> None:
    there.supply.free = free
    there.agents.known = [replace(agent(), name_checked=False)]
    assert there.gateway.dispatcher.admission(KEY) is Admission.WAIT
    there.agents.known = [agent()]
    assert there.gateway.dispatcher.admission(KEY) is later


async def test_an_unreadable_agent_has_the_name_it_had(there: World) -> None:
    there.agents.known = [InvalidAgent("agents", "ornina", "spec.colour: no")]
    assert there.gateway.dispatcher.admission(KEY) is Admission.FREE_SLOT
