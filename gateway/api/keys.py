"""API keys from a folder. The name of each entry says which namespace or agent its key may call."""

import hashlib
import hmac
import logging
import re
import time
from dataclasses import dataclass
from pathlib import Path

from agentspec.fields import DNS_SUBDOMAIN

MIN_API_KEY_LENGTH = 16
KEY_RELOAD_SECONDS = 1.0
"""Interval between two checks for changed key files."""
_ENTRY = re.compile(rf"(?P<namespace>[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)(?:\.(?P<agent>{DNS_SUBDOMAIN}))?\.[-_A-Za-z0-9]+")
"""Name of an entry: ``<namespace>.<id>`` or ``<namespace>.<agent>.<id>``.

Only the name of an agent may contain dots, so the first dot ends the namespace and the last one begins the id.
"""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Grant:
    """The right to call the agents of a namespace, or one of them."""

    namespace: str
    agent: str = ""
    """Name of the one agent; empty: every agent of the namespace."""

    def covers(self, namespace: str, agent: str) -> bool:
        """Return whether the grant includes an agent."""
        return self.namespace == namespace and self.agent in ("", agent)


@dataclass(frozen=True)
class Identity:
    """The holder of a valid key or token."""

    key_id: str
    """Name of the key, for logs."""
    scope: str
    """Text that no other identity has."""
    grants: tuple[Grant, ...]

    def may_call(self, namespace: str, agent: str) -> bool:
        """Return whether the identity may call an agent, which need not exist."""
        return any(grant.covers(namespace, agent) for grant in self.grants)


@dataclass(frozen=True)
class _Key:
    key_id: str
    digest: bytes
    grant: Grant


class ApiKeys:
    """API keys from a folder with one file for each key. Only hashes stay in memory."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._keys: list[_Key] = []
        self._loaded_files: object = None
        self._checked_at = float("-inf")
        self._ignored: set[str] = set()
        """Entries whose problem is in the log."""

    def identify(self, key: str) -> Identity | None:
        """Return the holder of a valid key, or None. Compares with every key, each in constant time.

        A key with several entries has the rights of all of them.
        """
        self._reload()
        digest = hashlib.sha256(key.encode()).digest()
        found = [known for known in self._keys if hmac.compare_digest(known.digest, digest)]
        if not found:
            return None
        key_id = found[0].key_id
        return Identity(key_id, f"key/{key_id}", tuple(known.grant for known in found))

    def _reload(self) -> None:
        if self._folder is None or time.monotonic() - self._checked_at < KEY_RELOAD_SECONDS:
            return
        self._checked_at = time.monotonic()
        try:
            # The keys of a mounted Secret are links into the folder `..data`, which the kubelet replaces as a whole.
            files = sorted(path for path in self._folder.iterdir() if not path.name.startswith(".") and path.is_file())
            current_files = [(path.name, path.stat().st_mtime_ns, path.stat().st_ino) for path in files]
            if current_files == self._loaded_files:
                return
            self._keys = [key for path in files if (key := self._read(path)) is not None]
        except OSError as error:
            logger.error("could not read API keys, keeping the previous ones", extra={"error": type(error).__name__})
            return
        self._loaded_files = current_files
        logger.info("API keys loaded", extra={"key_ids": [key.key_id for key in self._keys]})

    def _read(self, path: Path) -> _Key | None:
        """Return the key in a file; None when its name grants nothing or the key is too short."""
        name = _ENTRY.fullmatch(path.name)
        key = path.read_text(errors="replace").strip()
        if name is None:
            self._warn("API key refused, name it <namespace>.<id> or <namespace>.<agent>.<id>", path.name)
            return None
        if len(key) < MIN_API_KEY_LENGTH:
            self._warn("API key ignored, it is too short", path.name, min_length=MIN_API_KEY_LENGTH)
            return None
        self._ignored.discard(path.name)
        grant = Grant(name["namespace"], name["agent"] or "")
        return _Key(path.name, hashlib.sha256(key.encode()).digest(), grant)

    def _warn(self, message: str, key_id: str, **fields: object) -> None:
        """Log once that an entry is not in use."""
        if key_id not in self._ignored:
            self._ignored.add(key_id)
            logger.error(message, extra={"key_id": key_id, **fields})
