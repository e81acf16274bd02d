"""The demo changes URLs and keys of the examples, and nothing else."""

import copy
from typing import Any

from devkit.demo import manifests
from devkit.demo.manifests import Targets
from devkit.demo.run import EXAMPLES

SIMULATED = Targets("ws://livekit", "lk-key", "lk-secret", "http://openai/v1", "o-key", "http://tavus/v2", "t-key")


def by_kind(documents: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [document for document in documents if document["kind"] == kind]


def test_only_urls_and_keys_differ_from_the_example() -> None:
    original = manifests.load(EXAMPLES)
    before = copy.deepcopy(original)
    pointed, changes = manifests.retarget(original, SIMULATED)
    assert original == before, "the original documents are unchanged"
    (agent,) = by_kind(pointed, "AvatarAgent")
    (committed,) = by_kind(original, "AvatarAgent")
    assert agent["spec"]["livekit"].pop("url") == "ws://livekit"
    assert agent["spec"]["voice"]["openai"].pop("baseURL") == "http://openai/v1"
    assert agent["spec"]["avatar"]["tavus"].pop("baseURL") == "http://tavus/v2"
    committed["spec"]["livekit"].pop("url")
    assert agent == committed
    assert by_kind(pointed, "ConfigMap") == by_kind(original, "ConfigMap")
    assert len(changes) == 3 + 4


def test_reported_changes_contain_no_keys() -> None:
    _, changes = manifests.retarget(manifests.load(EXAMPLES), SIMULATED)
    shown = " ".join(f"{change.where} {change.value}" for change in changes)
    assert "ws://livekit" in shown
    assert not any(secret in shown for secret in ("lk-key", "lk-secret", "o-key", "t-key"))


def test_real_provider_keeps_url_of_the_manifest() -> None:
    real = Targets("wss://cloud", "k", "s", "", "o", "", "t")
    pointed, changes = manifests.retarget(manifests.load(EXAMPLES), real)
    (agent,) = by_kind(pointed, "AvatarAgent")
    assert "baseURL" not in agent["spec"]["voice"]["openai"]
    assert "baseURL" not in agent["spec"]["avatar"]["tavus"]
    assert [change.where for change in changes if "spec." in change.where] == ["ornina spec.livekit.url"]
