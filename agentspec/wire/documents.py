"""Reads and renders the JSON documents that processes exchange."""

import logging
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from agentspec.model import Model

M = TypeVar("M", bound=Model)

logger = logging.getLogger(__name__)


def read(model: type[M], text: str | bytes) -> M:
    """Return the document in `text`, which a newer release may have written.

    Unknown fields are ignored at every depth, also inside models that forbid them in a manifest. An unknown value of an
    enumeration is treated as an absent field: the field's default applies, and its path is logged.

    Raises:
        ValidationError: The text is not such a document.
    """
    try:
        return model.model_validate_json(text, extra="ignore")
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        unknown = [fault["loc"] for fault in faults if fault["type"] == "enum"]
        if len(unknown) < len(faults):
            raise
    document = from_json(text)
    for path in reversed(unknown):  # in reverse, so that the indices of a list stay valid
        _remove(document, path)
        logger.warning("unknown value read as absent", extra={"field": ".".join(map(str, path))})
    return model.model_validate_json(to_json(document), extra="ignore")


def render(document: Model) -> str:
    """Return the document as JSON."""
    return document.model_dump_json(by_alias=True)


def _remove(document: Any, path: tuple[int | str, ...]) -> None:  # noqa: ANN401 - decoded JSON
    *parents, last = path
    for step in parents:
        document = document[step]
    del document[last]
