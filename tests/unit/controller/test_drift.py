"""Whether a child must be applied."""

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
        pytest.param(None, None, True, id="never created"),
        pytest.param(None, APPLIED, True, id="deleted"),
        pytest.param(SEEN, None, True, id="unknown after a restart"),
        pytest.param(SEEN, APPLIED, False, id="unchanged"),
        pytest.param(replace(SEEN, uid="uid-8"), APPLIED, True, id="replaced by another object"),
        pytest.param(replace(SEEN, generation=4), APPLIED, True, id="spec edited"),
        pytest.param(replace(SEEN, content="True"), APPLIED, True, id="other content edited"),
        pytest.param(replace(SEEN, labels={}), APPLIED, True, id="labels removed"),
        pytest.param(replace(SEEN, labels={**SEEN.labels, "team": "sales"}), APPLIED, False, id="label added"),
        pytest.param(replace(SEEN, owners=()), APPLIED, True, id="owner removed"),
        pytest.param(replace(SEEN, owners=(("AvatarAgent", "ava", "uid-0"),)), APPLIED, True, id="owner replaced"),
        pytest.param(
            replace(SEEN, owners=(("Application", "shop", "uid-9"), *SEEN.owners)), APPLIED, False, id="owner added"
        ),
    ],
)
def test_must_apply(seen: ObservedObject | None, applied: Applied | None, must: bool) -> None:
    assert must_apply(workers(), seen, applied) is must


def test_changed_document_is_applied() -> None:
    assert must_apply(workers(replicas=2), SEEN, APPLIED)


values = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), values, max_size=4), st.text(max_size=5), values)
def test_digest_depends_on_content_and_not_on_order(document: dict[str, Any], field: str, value: object) -> None:
    backwards = dict(reversed(copy.deepcopy(document).items()))
    assert digest(backwards) == digest(document)
    other = {**document, field: value}
    assert (digest(other) == digest(document)) is (other == document)
