"""Checks whether an HTTP server answers."""

import http.client
import ssl
import urllib.request


def answers(url: str, context: ssl.SSLContext | None = None) -> bool:
    """Return whether a GET of the URL returns 200 within 2 s; False also when the server is unreachable."""
    try:
        with urllib.request.urlopen(url, timeout=2, context=context) as response:
            return bool(response.status == 200)
    except (OSError, http.client.HTTPException):
        return False
