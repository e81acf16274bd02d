"""Finds plugins of livekit-agents in the image, and checks options from a manifest against what they take.

Options are JSON. A constructor's parameter takes them by its type: a text, a number, a list, or a dataclass from an
object with the fields' names. The messages of PluginError say which option is wrong, and what is taken instead.
"""

import dataclasses
import importlib
import inspect
import types
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Union, cast, get_args, get_origin, get_type_hints

from livekit.agents import NotGiven
from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import to_json

PACKAGE: Final = "livekit.plugins"
_MAX_LISTED: Final = 20
"""Options that a message lists."""


class PluginError(Exception):
    """A plugin cannot be used as declared. The message is for people."""


def find(name: str, class_name: str) -> type[Any]:
    """Import a plugin and return its class; raises PluginError, and whatever else the import raises."""
    module = f"{PACKAGE}.{name}"
    try:
        found = getattr(importlib.import_module(module), class_name, None)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise PluginError(
            f"the worker image has no {module}: install it in an image of your own, and set that as worker.image"
        ) from None
    if not inspect.isclass(found):
        raise PluginError(f"{module} has no {class_name}")
    return found


def name_of(kind: type[Any]) -> str:
    """Return a class' name with the package that people import it from."""
    package = ".".join(kind.__module__.split(".")[:3]) if kind.__module__.startswith(f"{PACKAGE}.") else ""
    return f"{package}.{kind.__qualname__}".lstrip(".")


def takes(kind: type[Any], option: str) -> bool:
    """Return whether a class' constructor has a parameter."""
    return option in _parameters(kind)


def option_with_field(kind: type[Any], field: str) -> str | None:
    """Return the parameter that takes an object with a field; None when there is not exactly one."""
    names = [
        name
        for name, parameter in _parameters(kind).items()
        if (inner := _dataclass_in(parameter.annotation)) is not None
        and field in [each.name for each in dataclasses.fields(inner)]
    ]
    return names[0] if len(names) == 1 else None


def arguments(kind: type[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a class' constructor; raises PluginError when the options do not fit its signature."""
    parameters = _parameters(kind)
    known = ", ".join(_described(name, parameters[name].annotation) for name in list(parameters)[:_MAX_LISTED])
    for name in options:
        if name not in parameters:
            raise PluginError(f"{name} is no option of {name_of(kind)}, which takes {known or 'none'}")
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in options:
            raise PluginError(f"{name_of(kind)} needs the option {_described(name, parameter.annotation)}")
    return {name: _argument(name, parameters[name].annotation, value) for name, value in options.items()}


def _parameters(kind: type[Any]) -> dict[str, inspect.Parameter]:
    """Return the constructor's parameters that have names, with their types where those can be resolved."""
    names = getattr(inspect.unwrap(kind.__init__), "__globals__", {})
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        name: parameter.replace(annotation=_resolved(parameter, names))
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind in named
    }


def _resolved(parameter: inspect.Parameter, names: dict[str, Any]) -> object:
    """Return a parameter's type; Any when it has none, or one that only type checkers import."""
    if parameter.annotation is parameter.empty:
        return Any
    annotated = types.SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    try:
        return _given(get_type_hints(annotated, globalns=names)[parameter.name])
    except Exception:  # the annotation is evaluated, which may raise anything
        return Any


def _given(annotation: object) -> object:
    """Return a type without livekit-agents' sign for an argument that is not given."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if not _is_union(annotation):
        return annotation
    members = [_given(member) for member in get_args(annotation) if member is not NotGiven]
    return Union[tuple(members)]  # noqa: UP007 - made from a list


def _argument(name: str, annotation: object, value: object) -> object:
    """Return the argument for an option's value; raises PluginError."""
    if annotation is Any:
        return value
    kind = _dataclass_in(annotation)
    if kind is not None and isinstance(value, Mapping):
        try:
            return kind(**arguments(kind, value))
        except (PluginError, TypeError, ValueError) as error:
            raise PluginError(f"{name}: {error}") from None
    try:
        adapter = _adapter(annotation)
    except PydanticUserError:
        return value
    try:
        return adapter.validate_json(to_json(value), strict=True)
    except ValidationError:
        raise PluginError(f"{name} must be {_word(annotation)}, not {_word(type(value))}") from None


def _adapter(annotation: Any) -> TypeAdapter[Any]:  # noqa: ANN401 - any type
    if dataclasses.is_dataclass(annotation):
        return TypeAdapter(cast(Any, annotation))
    return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))


def _dataclass_in(annotation: object) -> type[Any] | None:
    """Return the dataclass that a parameter takes, possibly among other types."""
    members = get_args(annotation) if _is_union(annotation) else (annotation,)
    return next((member for member in members if inspect.isclass(member) and dataclasses.is_dataclass(member)), None)


def _is_union(annotation: object) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _described(name: str, annotation: object) -> str:
    return name if annotation is Any else f"{name} ({_word(annotation)})"


def _word(annotation: object) -> str:
    """Return a type in a manifest's words."""
    if _is_union(annotation):
        return " or ".join(_word(member) for member in get_args(annotation) if member is not types.NoneType)
    if get_origin(annotation) is Literal:
        return " or ".join(str(value) for value in get_args(annotation))
    kind = get_origin(annotation) or annotation
    words = {str: "text", int: "integer", float: "number", bool: "true or false", types.NoneType: "null"}
    if not inspect.isclass(kind):
        return "another value"
    if kind in words:
        return words[kind]
    if dataclasses.is_dataclass(kind):
        return f"object with {', '.join(field.name for field in dataclasses.fields(kind))}"
    if issubclass(kind, Mapping):
        return "object"
    return "list" if issubclass(kind, list | tuple | set) else kind.__name__
