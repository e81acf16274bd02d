"""The base of every model: camelCase field names in JSON, immutable, and strict about unknown fields."""

from pydantic import BaseModel, ConfigDict

_ACRONYMS = {"url": "URL", "id": "ID", "dtmf": "DTMF"}


def field_name(attribute: str) -> str:
    """Return the JSON name of an attribute by Kubernetes' API conventions: ``faceID`` for ``face_id``."""
    first, *rest = attribute.split("_")
    return first + "".join(_ACRONYMS.get(word, word.capitalize()) for word in rest)


class Model(BaseModel):
    """An immutable document. It rejects unknown fields, so that a misspelt field in a manifest is an error.

    `agentspec.wire.read` ignores them in documents of other releases.
    """

    model_config = ConfigDict(alias_generator=field_name, populate_by_name=True, frozen=True, extra="forbid")
