"""API keys: whose they are, and how changed files are read."""

from pathlib import Path

import pytest

from gateway.api.keys import ApiKeys, Grant

KEY = "a-long-enough-api-key"
OTHER_KEY = "another-long-enough-key"


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one key, like a mounted Secret, which is read again for every request."""
    monkeypatch.setattr("gateway.api.keys.KEY_RELOAD_SECONDS", -1.0)
    (tmp_path / "agents.website").write_text(f"{KEY}\n")
    (tmp_path / "..data").write_text("not-a-key-but-a-file-of-the-mount")
    return tmp_path


def key_id(api_keys: ApiKeys, key: str) -> str | None:
    """Name of a valid key."""
    identity = api_keys.identify(key)
    return identity.key_id if identity else None


@pytest.mark.parametrize(
    ("name", "grant"),
    [
        ("agents.website", Grant("agents")),
        ("agents.Web_site-2", Grant("agents")),
        ("team-1.ornina.website", Grant("team-1", "ornina")),
        ("agents.front.desk.website", Grant("agents", "front.desk")),
    ],
    ids=["namespace", "any id", "agent", "agent with a dot in its name"],
)
def test_name_of_the_entry_says_whose_the_key_is(tmp_path: Path, name: str, grant: Grant) -> None:
    (tmp_path / name).write_text(KEY)
    identity = ApiKeys(tmp_path).identify(KEY)
    assert identity is not None
    assert (identity.key_id, identity.scope, identity.grants) == (name, f"key/{name}", (grant,))


@pytest.mark.parametrize(
    ("grant", "covered"),
    [(Grant("agents"), {"agents/a", "agents/b"}), (Grant("agents", "a"), {"agents/a"}), (Grant("other"), {"other/a"})],
    ids=["namespace", "agent", "other namespace"],
)
def test_grant_covers_its_namespace_or_agent_only(grant: Grant, covered: set[str]) -> None:
    agents = ("agents/a", "agents/b", "other/a")
    assert {agent for agent in agents if grant.covers(*agent.split("/"))} == covered


@pytest.mark.parametrize(
    "name", ["website", "agents.", "Agents.website", "agents..website", "agents.Ornina.website", "agents.-a.website"]
)
def test_entry_that_names_no_owner_is_refused_once(keys: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    (keys / name).write_text(OTHER_KEY)
    api_keys = ApiKeys(keys)
    assert api_keys.identify(OTHER_KEY) is None
    (keys / "agents.third").write_text("a-third-key-of-some-length")
    assert api_keys.identify(OTHER_KEY) is None, "the folder was read again"
    (refusal,) = [record for record in caplog.records if "<namespace>.<id>" in record.getMessage()]
    assert refusal.levelname == "ERROR"
    assert refusal.__dict__["key_id"] == name
    assert OTHER_KEY not in caplog.text


def test_key_with_two_entries_has_the_rights_of_both(keys: Path) -> None:
    (keys / "shop.website").write_text(KEY)
    identity = ApiKeys(keys).identify(KEY)
    assert identity is not None
    assert [identity.may_call(namespace, "any") for namespace in ("agents", "shop", "other")] == [True, True, False]


def test_changed_keys_are_reloaded_and_short_keys_ignored(keys: Path) -> None:
    api_keys = ApiKeys(keys)
    assert key_id(api_keys, KEY) == "agents.website"
    (keys / "agents.website").unlink()
    (keys / "agents.short").write_text("too-short")
    (keys / "agents.mobile").write_text(OTHER_KEY)
    assert api_keys.identify(KEY) is None
    assert api_keys.identify("too-short") is None
    assert key_id(api_keys, OTHER_KEY) == "agents.mobile"


def test_loaded_keys_stay_valid_when_the_folder_is_unreadable(keys: Path) -> None:
    api_keys = ApiKeys(keys)
    assert key_id(api_keys, KEY) == "agents.website"
    for path in keys.iterdir():
        path.unlink()
    keys.rmdir()
    assert key_id(api_keys, KEY) == "agents.website"


@pytest.mark.parametrize("key", ["wrong", "", "not-a-key-but-a-file-of-the-mount", f"{KEY}x", KEY[:-1]])
def test_other_text_is_no_key(keys: Path, key: str) -> None:
    assert ApiKeys(keys).identify(key) is None


def test_no_key_is_valid_without_a_folder() -> None:
    assert ApiKeys(None).identify("") is None
