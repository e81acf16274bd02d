"""The base of every model here: camelCase on the wire, immutable and strict about unknown fields in Python."""

from pydantic import BaseModel, ConfigDict

_ACRONYMS = {"url": "URL", "id": "ID"}


def field_name(attribute: str) -> str:
    """The wire name of an attribute, by Kubernetes' API conventions: ``face_id`` is ``faceID``, ``url`` is ``url``."""
    first, *rest = attribute.split("_")
    return first + "".join(_ACRONYMS.get(word, word.capitalize()) for word in rest)


class Model(BaseModel):
    """A frozen document; unknown fields are refused so that a typing error never passes silently."""

    model_config = ConfigDict(alias_generator=field_name, populate_by_name=True, frozen=True, extra="forbid")
