"""Whether a child has to be applied."""

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.desired.deployment import deployment, pod_template
from controller.desired.identity import Owner, labels
from controller.observation import ObservedObject
from controller.policy.drift import Applied, digest, must_apply
from tests.unit.controller.builders import spec

OWNER = Owner("shop", "ava", "uid-1")
SEEN = ObservedObject("shop", "ava-worker", "uid-7", 3, labels(OWNER), (("AvatarAgent", "ava", "uid-1"),))


def workers(replicas: int = 1) -> dict[str, Any]:
    template = pod_template(OWNER, spec(), default_image="worker:1", config_map_name="ava-worker-1", credentials="c")
    return deployment(OWNER, template, replicas=replicas)


APPLIED = Applied(digest(workers()), SEEN)


@pytest.mark.parametrize(
    ("seen", "applied", "must"),
    [
        pytest.param(None, None, True, id="it was never made"),
        pytest.param(None, APPLIED, True, id="it is gone"),
        pytest.param(SEEN, None, True, id="after a restart nobody knows what was applied"),
        pytest.param(SEEN, APPLIED, False, id="it is as it was applied"),
        pytest.param(replace(SEEN, uid="uid-8"), APPLIED, True, id="another object has its name"),
        pytest.param(replace(SEEN, generation=4), APPLIED, True, id="its spec was changed"),
        pytest.param(replace(SEEN, content="True"), APPLIED, True, id="or what else matters"),
        pytest.param(replace(SEEN, labels={}), APPLIED, True, id="its labels were removed"),
        pytest.param(replace(SEEN, labels={**SEEN.labels, "team": "sales"}), APPLIED, False, id="one was added"),
        pytest.param(replace(SEEN, owners=()), APPLIED, True, id="its owner was removed"),
        pytest.param(
            replace(SEEN, owners=(("AvatarAgent", "ava", "uid-0"),)), APPLIED, True, id="its owner is another one"
        ),
        pytest.param(
            replace(SEEN, owners=(("Application", "shop", "uid-9"), *SEEN.owners)), APPLIED, False, id="one was added"
        ),
    ],
)
def test_must_apply(seen: ObservedObject | None, applied: Applied | None, must: bool) -> None:
    assert must_apply(workers(), seen, applied) is must


def test_another_document_is_applied() -> None:
    assert must_apply(workers(replicas=2), SEEN, APPLIED)


values = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), values, max_size=4), st.text(max_size=5), values)
def test_documents_are_told_apart_by_what_they_say_and_not_by_the_order(
    document: dict[str, Any], field: str, value: object
) -> None:
    backwards = dict(reversed(copy.deepcopy(document).items()))
    assert digest(backwards) == digest(document)
    other = {**document, field: value}
    assert (digest(other) == digest(document)) is (other == document)
