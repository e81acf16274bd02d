"""Tavus' API for conversations: create, list, end (Tavus API reference, ``/v2/conversations``).

A conversation is one avatar: it is billed and holds a seat until it ends.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import aiohttp
from livekit.agents import APIConnectionError, APIStatusError

from worker.avatar_sessions import AvatarName, OpenAvatar

LIST_SECONDS: Final = 10.0
_PAGE_SIZE: Final = 100
_MAX_PAGES: Final = 20
_RETRY_SECONDS: Final = 0.5
_MAX_DURATION_SECONDS: Final = 3600
"""Tavus' own limit of `max_call_duration`."""


class TavusAPI:
    """Conversations of one Tavus account."""

    def __init__(self, session: Callable[[], aiohttp.ClientSession], base_url: str, key: str) -> None:
        self._session = session
        self._url = f"{base_url.rstrip('/')}/conversations"
        self._headers = {"x-api-key": key}

    async def create(self, name: str, pal_id: str, face_id: str, properties: dict[str, Any], seconds: float) -> str:
        """Create a conversation and return its id.

        Raises:
            APIStatusError: Tavus refused.
            APIConnectionError: The request was not sent (`retryable`), or its answer was lost or malformed.
        """
        body = {"conversation_name": name, "pal_id": pal_id, "face_id": face_id, "properties": properties}
        timeout = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._session().post(self._url, json=body, headers=self._headers, timeout=timeout) as response:
                if not response.ok:
                    status, text = response.status, await response.text()
                    raise APIStatusError("Tavus refused the conversation", status_code=status, body=text)
                return _id_of(await response.json())
        except aiohttp.ClientConnectorError as error:
            raise APIConnectionError("cannot connect to Tavus", retryable=True) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise APIConnectionError("the answer of Tavus was lost", retryable=False) from error
        except ValueError as error:
            raise APIConnectionError("the answer of Tavus is malformed", retryable=False) from error

    async def active(self) -> list[OpenAvatar]:
        """Return the active conversations of this product's agents. Raises APIConnectionError or APIStatusError."""
        found: list[OpenAvatar] = []
        for page in range(1, _MAX_PAGES + 1):
            count, avatars = await self._page(page)
            found += avatars
            if count < _PAGE_SIZE:
                break
        return found

    async def _page(self, page: int) -> tuple[int, list[OpenAvatar]]:
        """Return the number of conversations on a page, and those of this product's agents."""
        query = {"status": "active", "limit": str(_PAGE_SIZE), "page": str(page)}
        timeout = aiohttp.ClientTimeout(total=LIST_SECONDS)
        try:
            async with self._session().get(self._url, params=query, headers=self._headers, timeout=timeout) as response:
                if not response.ok:
                    raise APIStatusError("Tavus refused the list", status_code=response.status, body=None)
                documents = _conversations(await response.json())
                return len(documents), [avatar for document in documents if (avatar := _open_avatar(document))]
        except (aiohttp.ClientError, TimeoutError) as error:
            raise APIConnectionError("the list of conversations was lost") from error
        except ValueError as error:
            raise APIConnectionError("the list of conversations is malformed") from error

    async def end(self, avatar_id: str, *, attempts: int, seconds: float) -> str:
        """End a conversation; returns an empty text, or why that failed. `seconds` bounds all attempts together."""
        error = ""
        for _ in range(attempts):
            timeout = aiohttp.ClientTimeout(total=seconds / attempts)
            try:
                async with self._session().post(
                    f"{self._url}/{avatar_id}/end", headers=self._headers, timeout=timeout
                ) as response:
                    if response.ok:
                        return ""
                    error = f"HTTP {response.status}"
            except (aiohttp.ClientError, TimeoutError) as failure:
                error = type(failure).__name__
        return error


def _conversations(page: object) -> list[object]:
    """Return the conversations of a page. Raises ValueError."""
    documents = page.get("data") if isinstance(page, dict) else None
    if not isinstance(documents, list):
        raise ValueError("the page has no list `data`")
    return documents


def _open_avatar(document: object) -> OpenAvatar | None:
    """Return an active conversation of this product's agents; None: another one. Raises ValueError."""
    if not isinstance(document, dict):
        raise ValueError("a conversation is no object")
    name = AvatarName.parse(str(document.get("conversation_name", "")))
    if name is None or document.get("status") != "active":
        return None
    return OpenAvatar(_id_of(document), name, str(document.get("created_at", "")))


def _id_of(document: object) -> str:
    """Return the id of a conversation. Raises ValueError."""
    found = document.get("conversation_id") if isinstance(document, dict) else None
    if not isinstance(found, str) or not found:
        raise ValueError("the conversation has no id")
    return found


class ConversationRequest:
    """The one conversation of a call. It stands in for the API client of livekit-plugins-tavus.

    The plugin's client repeats a request whose answer was lost, which can create a second conversation, and cannot name
    it.
    """

    def __init__(self, api: TavusAPI, name: AvatarName, *, max_seconds: float, answer_seconds: float) -> None:
        """`max_seconds` is the longest duration of the call: Tavus ends the conversation if everything else fails."""
        self._api = api
        self._name = name
        self._max_seconds = min(int(max_seconds), _MAX_DURATION_SECONDS)
        self._answer_seconds = answer_seconds
        self.may_be_open = False
        """The request was sent, and no answer says whether there is a conversation."""

    async def create_conversation(self, *, pal_id: str, face_id: str, properties: dict[str, Any]) -> str:
        """Create the conversation; the plugin calls this. Repeats a request only if Tavus cannot have acted on it."""
        properties = {**properties, "max_call_duration": self._max_seconds}
        for is_last in (False, True):
            self.may_be_open = True
            try:
                created = await self._api.create(str(self._name), pal_id, face_id, properties, self._answer_seconds)
            except APIStatusError as error:
                self.may_be_open = error.status_code >= 500
                if is_last or error.status_code != 429:
                    raise
            except APIConnectionError as error:
                self.may_be_open = not error.retryable
                if is_last or not error.retryable:
                    raise
            else:
                self.may_be_open = False
                return created
            await asyncio.sleep(_RETRY_SECONDS)
        raise AssertionError("the last attempt returns or raises")
