"""The official SDK's types as a yardstick: strict validation, and complete samples of every message."""

from __future__ import annotations

import base64
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, TypeAdapter

AUDIO = bytes(range(256)) * 3
BASE64 = base64.b64encode(AUDIO).decode()


def members(union: Any) -> tuple[Any, ...]:
    """The models of an annotated union."""
    return get_args(get_args(union)[0] if get_origin(union) is Annotated else union)


def strictly(kind: Any, wire: dict[str, Any]) -> Any:
    """Validate without any leniency: no coercion, no key that the type does not have."""
    return TypeAdapter(kind).validate_python(wire, strict=True, extra="forbid")


def samples(model: type[BaseModel], *, bare: bool = True) -> Iterator[dict[str, Any]]:
    """JSON objects of this model with all fields set, as many as it takes to show every alternative of every field.

    bare: and one with only the required fields, and one where null stands for the rest.
    """
    fields = {name: _values(field.annotation, name, bare) for name, field in model.model_fields.items()}
    for n in range(max(map(len, fields.values()), default=1)):
        yield {(model.model_fields[name].alias or name): values[n % len(values)] for name, values in fields.items()}
    if not bare:
        return
    required = {name for name, field in model.model_fields.items() if field.is_required()}
    least = {(model.model_fields[name].alias or name): fields[name][-1] for name in fields if name in required}
    yield least
    yield least | {name: None for name in fields if name not in required}


def _values(kind: Any, name: str, bare: bool) -> list[Any]:
    """Samples of one field's type, one for each alternative; None is left out because absent says the same."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _values(args[0], name, bare)
    if origin in {typing.Union, types.UnionType}:
        return [value for arg in args if arg is not type(None) for value in _values(arg, name, bare)]
    if origin is Literal:
        return list(args)
    if origin is list:
        values = _values(args[0], name, bare)
        return [values, values[:1]]
    if origin is dict:
        return [{"key": _values(args[1], name, bare)[0]}]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return list(samples(kind, bare=bare))
    return [_plain(kind, name)]


def _plain(kind: Any, name: str) -> Any:
    if kind is str:
        return BASE64 if name == "audio" else f'{name} \N{SNOWMAN} "/\\'
    if kind is bool:
        return True
    return {int: 7, float: 1.5}.get(kind, {"any": ["thing", 1, None]})
