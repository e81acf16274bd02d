"""Call ids: equal for equal requests only."""

from gateway.calls.ids import call_id_for, new_call_id


def test_call_id_depends_on_agent_scope_and_key_only() -> None:
    ids = {
        call_id_for("a/x", "public", "key"),
        call_id_for("a/y", "public", "key"),
        call_id_for("a/x", "key/site", "key"),
        call_id_for("a/x", "public", "other"),
        new_call_id("a/x"),
        new_call_id("a/x"),
    }
    assert len(ids) == 6
    assert call_id_for("a/x", "public", "key") in ids
