"""One question to an HTTP server: does it answer?"""

import http.client
import ssl
import urllib.request


def answers(url: str, context: ssl.SSLContext | None = None) -> bool:
    """Whether a GET of the URL ends with 200 within 2 s; a server that is not there answers no."""
    try:
        with urllib.request.urlopen(url, timeout=2, context=context) as response:
            return bool(response.status == 200)
    except (OSError, http.client.HTTPException):
        return False
