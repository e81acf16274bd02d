"""Reads names and resource versions from a list of objects, without making Python objects of anything else.

The managed fields of a thousand objects are a hundred thousand dictionaries, most of whose cost is garbage collection.
"""

from pydantic import BaseModel, Field


class _ObjectMetadata(BaseModel):
    namespace: str
    name: str
    version: int = Field(alias="resourceVersion")


class _Object(BaseModel):
    metadata: _ObjectMetadata


class _ListMetadata(BaseModel):
    continue_token: str = Field(default="", alias="continue")


class _List(BaseModel):
    metadata: _ListMetadata
    items: list[_Object] | None = None


def read_versions(data: bytes) -> tuple[dict[tuple[str, str], int], str]:
    """Return the resource versions by namespace and name, and the token of the next page; empty: there is none.

    Raises ValueError when the data is not a list of objects of namespaces.
    """
    page = _List.model_validate_json(data)
    found = [one.metadata for one in page.items or []]
    return {(one.namespace, one.name): one.version for one in found}, page.metadata.continue_token
