"""The items of a session's conversation, and what the model reads in them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Item = dict[str, Any]


class ItemError(ValueError):
    """A client's event about an item cannot be carried out. `code` is OpenAI's."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Conversation:
    """Items in the order in which the model reads them."""

    def __init__(self) -> None:
        self._items: list[Item] = []

    def add(self, item: Item, previous: str | None = None) -> str | None:
        """Add an item, and return the id of the item before it.

        `previous`: None appends, `root` inserts at the begin.
        """
        if any(known["id"] == item["id"] for known in self._items):
            raise ItemError(f"Item with item_id already exists: {item['id']}.", "item_create_duplicate_item_id")
        position = len(self._items) if previous is None else 0 if previous == "root" else self._position(previous) + 1
        self._items.insert(position, item)
        return self._items[position - 1]["id"] if position else None

    def delete(self, identifier: str) -> None:
        """Remove an item."""
        del self._items[self._position(identifier)]

    def truncate(self, identifier: str, audio_ms: int) -> None:
        """Keep what was said within the first `audio_ms` of an answer's audio."""
        item = self._items[self._position(identifier)]
        total = item.get("audio_ms", 0)
        for part in item["content"]:
            words = part.get("transcript", "").split()
            part["transcript"] = " ".join(words[: round(len(words) * audio_ms / total)] if total else words)

    def messages(self) -> Iterator[tuple[str, str]]:
        """Yield role and text of each item, as chat completions have them."""
        for item in self._items:
            if item["type"] == "message":
                parts = [part.get("text") or part.get("transcript") or "" for part in item.get("content", [])]
                yield item["role"], "\n".join(part for part in parts if part)
            elif item["type"] == "function_call_output":
                yield "tool", str(item.get("output", ""))

    def _position(self, identifier: str) -> int:
        for position, item in enumerate(self._items):
            if item["id"] == identifier:
                return position
        raise ItemError(f"Item with item_id not found: {identifier}.", "item_not_found")


def shown(item: Item) -> Item:
    """Return an item as events contain it."""
    return {name: value for name, value in item.items() if name != "audio_ms"} | {"object": "realtime.item"}
