"""The files that the call page loads: compressed, under a path that changes with them, so that browsers may keep them.

A browser that asks again gets 304 when it has the file.
"""

import gzip
import hashlib
import os
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.staticfiles import NotModifiedResponse, PathLike, StaticFiles
from starlette.types import Scope

from gateway.settings import WEB_DIR

_KINDS: Final = {
    "app.js": "text/javascript",
    "call.js": "text/javascript",
    "texts.js": "text/javascript",
    "style.css": "text/css",
    "icon.svg": "image/svg+xml",
}
LIVEKIT_CLIENT: Final = "livekit-client.esm.mjs"
GZIP_LEVEL: Final = 6
"""Makes livekit-client 321 kB of 1,437, once in 42 ms. Level 9 saves 3 kB more and takes 105 ms."""
_NEVER_CHANGES: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class _Content:
    plain: bytes
    compressed: bytes
    digest: str


@lru_cache(maxsize=16)
def _read(path: str, modified_ns: int) -> _Content:
    """Read a file. The digest, not the time of change, identifies it: image builds may set one time for all files."""
    plain = Path(path).read_bytes()
    digest = hashlib.sha256(plain).hexdigest()[:32]
    return _Content(plain, gzip.compress(plain, GZIP_LEVEL, mtime=0), digest)


class Assets(StaticFiles):
    """Serves a fixed list of files, and no other file of their folders."""

    def __init__(self, livekit_client_dir: Path, headers: dict[str, str]) -> None:
        """``headers`` are added to every file."""
        super().__init__(directory=WEB_DIR)
        self._headers = headers
        self._kinds = _KINDS | {LIVEKIT_CLIENT: "text/javascript"}
        self._paths = {name: WEB_DIR / name for name in _KINDS} | {LIVEKIT_CLIENT: livekit_client_dir / LIVEKIT_CLIENT}

    @cached_property
    def version(self) -> str:
        """The folder of the files' paths: a digest of all files, so that a page loads only files of its own release."""
        present = [path for path in self._paths.values() if path.is_file()]
        digests = [_read(str(path), path.stat().st_mtime_ns).digest for path in present]
        return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]

    async def answer(self, version: str, name: str, scope: Scope) -> Response:
        """Return a file, which the browser may keep. Raises HTTPException with 404 for a name that is not listed.

        During an update the page may come from a replica of another release. Its paths then lead to this release's
        files, which the browser must not keep under them.
        """
        response = await self.get_response(name, scope)
        if version == self.version:
            response.headers["Cache-Control"] = _NEVER_CHANGES
        return response

    def missing(self) -> list[str]:
        """Return the paths of missing files. The call page does not work without them."""
        return [str(path) for path in self._paths.values() if not path.is_file()]

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """Return the path of a listed file and its metadata. Runs in a thread, so it reads and compresses here."""
        file = self._paths.get(path)
        if file is None or not file.is_file():
            return "", None
        found = file.stat()
        _read(str(file), found.st_mtime_ns)
        return str(file), found

    def file_response(
        self, full_path: PathLike, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Return a file, compressed if the client accepts this, or 304 if it has the file."""
        request = Headers(scope=scope)
        content = _read(str(full_path), stat_result.st_mtime_ns)
        is_compressed = "gzip" in request.get("accept-encoding", "")
        tag = f'"{content.digest}-gzip"' if is_compressed else f'"{content.digest}"'
        headers = {**self._headers, "ETag": tag, "Vary": "Accept-Encoding"}
        if is_compressed:
            headers["Content-Encoding"] = "gzip"
        body = content.compressed if is_compressed else content.plain
        response = Response(body, status_code, headers, self._kinds[Path(full_path).name])
        return NotModifiedResponse(response.headers) if self.is_not_modified(response.headers, request) else response
