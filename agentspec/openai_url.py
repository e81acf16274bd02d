"""Base URLs of the OpenAI API and of compatible ones, with the query that each request needs.

Azure has two dialects. The newer one, below ``/openai/v1``, is OpenAI's own. The older one has an ``api-version`` in
the query, the model as a deployment in the path, and the key in the header ``api-key``
(learn.microsoft.com/azure/ai-services/openai/reference).
"""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

AZURE_VERSION = "api-version"
"""Parameter of the query that marks Azure's older dialect."""


class OpenAIURL(NamedTuple):
    """A base URL in its parts."""

    base: str
    """Without query, and without a slash at its end."""
    query: Mapping[str, str]
    """Parameters of each request."""

    @property
    def is_azure(self) -> bool:
        """Whether the server speaks Azure's older dialect."""
        return AZURE_VERSION in self.query and not self.base.endswith("/v1")


def parse(url: str) -> OpenAIURL:
    """Return the parts of a base URL."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return OpenAIURL(parts._replace(query="", fragment="").geturl().rstrip("/"), query)
