"""A function's parameters as the model sees them: one structure makes the schema and judges the arguments."""

from __future__ import annotations

import functools
import inspect
import json
import keyword
import re
from collections.abc import Callable
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import UNSET, UnsetType
from msgspec import inspect as mi

from realtime_client.errors import UsageError
from realtime_client.escape import shortened

from .docstrings import described
from .lenient import loosener
from .schema import schema_of
from .tool import BadArgumentsError, ToolContext

_PATH = re.compile(r"(.*) - at (.+)", re.DOTALL)


class Parameters:
    """What a function takes.

    summary: what its docstring says of it. schema: of what the model gives. context: the parameters that get the
    call's `ToolContext`. returns: the type hint of the result; `inspect.Signature.empty` for none.

    Errors: UsageError, when a parameter is of a kind or type that no model can give.
    """

    def __init__(self, function: Callable[..., Any], tool: str) -> None:
        plain, given = _behind(function)
        target = plain if inspect.isroutine(plain) or hasattr(plain, "__wrapped__") else type(plain).__call__
        hints = _hints(target, tool)
        taken = {name: each for name, each in _signature(function, tool).items() if name not in given}
        for parameter in taken.values():
            _check_kind(parameter, hints, tool)
        self.returns = hints.get("return", inspect.Signature.empty)
        self.context = tuple(name for name in taken if _is_context(hints[name]))
        fields = {name: each for name, each in taken.items() if name not in self.context}
        types = {name: _field_type(each, hints[name], tool) for name, each in fields.items()}
        self._names = tuple(fields)
        self._struct = _struct(fields, types, tool)
        self._loosen = loosener(mi.type_info(self._struct))
        self._decode = msgspec.json.Decoder(self._struct).decode
        documentation = described(target.__doc__ or plain.__doc__, tuple(taken))
        self.summary = documentation.summary
        self.schema = schema_of(
            self._struct,
            {
                _seen(name): text
                for name in fields
                if (text := _note(hints[name]) or documentation.parameters.get(name, ""))
            },
        )
        _tell_defaults(self.schema["properties"], fields)

    def read(self, text: str) -> dict[str, Any]:
        """Judge a call's arguments, and return those that it gives. Errors: BadArgumentsError."""
        if not text or text.isspace():
            text = "{}"
        try:
            try:
                found = self._decode(text)
            except msgspec.ValidationError:
                found = self._decode(self._loosen(text.strip().encode()))
        except msgspec.ValidationError as error:
            raise BadArgumentsError(self._plain(str(error))) from None
        except msgspec.DecodeError as error:
            raise BadArgumentsError(f"the arguments are not valid JSON: {error}") from None
        except Exception as error:  # noqa: BLE001 - a class of the function's own may judge, too
            raise BadArgumentsError(
                shortened(f"the arguments cannot be read: {type(error).__name__}: {error}", 300)
            ) from None
        return {name: value for name in self._names if (value := getattr(found, name)) is not UNSET}

    def _plain(self, message: str) -> str:
        """`Expected int <= 14 - at $.days` as `days: Expected int <= 14`."""
        message = message.replace("`", "")
        if found := _PATH.fullmatch(message):
            path = found[2].replace("$.", "").replace("$", "the arguments")
            message = f"{path}: {found[1]}"
        elif "unknown field" in message:
            message += f"; there are: {', '.join(map(_seen, self._names)) or 'none'}"
        return shortened(message.replace("Object contains ", "").replace("Object missing ", "missing "), 400)


def _behind(function: Callable[..., Any]) -> tuple[Any, frozenset[str]]:
    """What a partial function calls, and the arguments that it gives by name."""
    given: frozenset[str] = frozenset()
    while isinstance(function, functools.partial):
        given |= function.keywords.keys()
        function = function.func
    return function, given


def _hints(target: Any, tool: str) -> dict[str, Any]:
    try:
        return get_type_hints(target, include_extras=True)
    except Exception as error:
        raise UsageError(f"tool {tool}: its type hints cannot be read: {error}") from error


def _signature(function: Callable[..., Any], tool: str) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError) as error:
        raise UsageError(f"tool {tool}: its parameters cannot be read: {error}") from error


def _check_kind(parameter: inspect.Parameter, hints: dict[str, Any], tool: str) -> None:
    where = f"tool {tool}: parameter {parameter}"
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise UsageError(f"{where} has no fixed names: a model gives arguments by name")
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise UsageError(f"{where} is positional only: a model gives arguments by name")
    if parameter.name not in hints:
        more = ": take the method of an object, tool(it.method)" if parameter.name in ("self", "cls") else ""
        raise UsageError(f"{where} has no type hint{more}")


def _is_context(hint: Any) -> bool:
    return hint is ToolContext or ToolContext in get_args(hint)


def _field_type(parameter: inspect.Parameter, hint: Any, tool: str) -> Any:
    """The type of a field: unset where it may be left out; None where that is its default."""
    if foreign := _foreign_limit(hint):
        raise UsageError(f"tool {tool}: parameter {parameter.name}: {foreign} is not obeyed here: take msgspec's Meta")
    if parameter.default is None and hint is not Any:
        hint = Union[hint, None]  # noqa: UP007 - a hint may be no class
    try:
        msgspec.json.schema(hint)
    except Exception as error:
        why = str(error).splitlines()[-1].replace("`", "")
        raise UsageError(f"tool {tool}: parameter {parameter.name}: no model can give this: {why}") from error
    return hint if parameter.default is parameter.empty else Union[hint, UnsetType]  # noqa: UP007


def _foreign_limit(hint: Any) -> str:
    """What of another library's stands in a hint; it would be passed over without a word."""
    for each in getattr(hint, "__metadata__", ()):
        if type(each).__module__.partition(".")[0] in ("annotated_types", "pydantic"):
            return type(each).__name__
    return next(filter(None, map(_foreign_limit, get_args(hint))), "")


def _struct(fields: dict[str, inspect.Parameter], types: dict[str, Any], tool: str) -> type[msgspec.Struct]:
    told = [
        (name, types[name]) if each.default is each.empty else (name, types[name], UNSET)
        for name, each in fields.items()
    ]
    names = {name: _seen(name) for name in fields if _seen(name) != name}
    try:
        return msgspec.defstruct(tool, told, kw_only=True, forbid_unknown_fields=True, rename=names or None)
    except (TypeError, ValueError) as error:
        raise UsageError(f"tool {tool}: its parameters cannot be told to a model: {error}") from error


def _seen(name: str) -> str:
    """How the model calls a parameter: `from_` is `from`, which Python has for itself."""
    bare = name.removesuffix("_")
    return bare if keyword.iskeyword(bare) else name


def _note(hint: Any) -> str:
    """The text in `Annotated[int, "how many"]`, or in typing_extensions' `Doc`."""
    for each in get_args(hint)[1:] if get_origin(hint) is Annotated else ():
        text = getattr(each, "documentation", each)
        if isinstance(text, str):
            return text
    return ""


def _tell_defaults(properties: dict[str, Any], fields: dict[str, inspect.Parameter]) -> None:
    """Say in the schema what an argument is when it is left out, where JSON can say it."""
    for name, each in fields.items():
        if each.default is each.empty:
            continue
        try:
            told = json.loads(json.dumps(msgspec.to_builtins(each.default), allow_nan=False))
        except Exception:  # noqa: BLE001, S112 - any object can be a default
            continue
        properties[_seen(name)]["default"] = told
