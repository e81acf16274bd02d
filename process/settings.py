"""Loads the settings of a process from its environment.

A process declares one frozen pydantic model. Each field names its environment variable (`validation_alias`) and says
what to set (`description`); pydantic converts and checks the values.
"""

from collections.abc import Mapping
from typing import Annotated, Final, TypeVar

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

EXIT_INVALID_SETTINGS: Final = 2
"""Exit status of a process whose settings are missing or invalid."""

Port = Annotated[int, Field(ge=1, le=65535)]
"""A TCP port."""


class SettingsError(Exception):
    """Settings are missing or invalid. The message is one line that says what to set."""


class ProcessSettings(BaseModel):
    """Base of every process' settings. A field with `repr=False` is a secret: no message shows its value."""

    model_config = ConfigDict(frozen=True, validate_by_name=True, validate_by_alias=True, validate_default=True)


S = TypeVar("S", bound=ProcessSettings)


def load(model: type[S], environment: Mapping[str, str]) -> S:
    """Load `model` from environment variables.

    Surrounding blanks are removed; an empty variable counts as unset. Raises SettingsError, which names every variable
    that is missing or invalid.
    """
    variables = {name: str(field.validation_alias) for name, field in model.model_fields.items()}
    values = {variable: text for variable in variables.values() if (text := environment.get(variable, "").strip())}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
    fields = {variables[name]: field for name, field in model.model_fields.items()}
    # The place of a fault is the variable, or the field's name if its default is at fault. A default that depends on
    # invalid fields is no fault of its own.
    places = (str(fault["loc"][0]) for fault in faults if fault["type"] != "default_factory_not_called")
    names = dict.fromkeys(variables.get(place, place) for place in places)
    # Raised outside the handler: pydantic's error shows every value, secrets included.
    raise SettingsError("; ".join(_advice(name, fields[name], values.get(name)) for name in names))


def _advice(name: str, field: FieldInfo, value: str | None) -> str:
    """Say what is wrong with a variable and what to set."""
    if value is None:
        fault = "is not set"
    elif field.repr:
        fault = f"is {value!r}"
    else:
        fault = "is invalid"
    return f"{name} {fault}: set it to {_expected(field)}{_alternative(field)}"


def _expected(field: FieldInfo) -> str:
    lowest = next((bound.ge for bound in field.metadata if isinstance(bound, Ge)), None)
    highest = next((bound.le for bound in field.metadata if isinstance(bound, Le)), None)
    if lowest is None or highest is None:
        return str(field.description)
    return f"a whole number between {lowest} and {highest} ({field.description})"


def _alternative(field: FieldInfo) -> str:
    return "" if field.default in (PydanticUndefined, None, "") else f", or leave it out for {field.default}"
