"""Arguments as models write them: "3" where a number is asked for, 3.0 for 3, "true", "null".

JSON in, JSON out, so that no number passes through another kind: what is read so is exactly what the model wrote.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Raw
from msgspec import inspect as mi

_NUMBER = re.compile(rb"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_WHOLE = re.compile(rb"(-?(?:0|[1-9]\d*))(?:\.0+)?")
_ARRAYS = (mi.ListType, mi.SetType, mi.FrozenSetType, mi.VarTupleType)
_OBJECTS = (mi.StructType, mi.DataclassType, mi.TypedDictType)


def loosened(raw: bytes, kind: mi.Type) -> bytes:
    """Return a JSON value in the form that its type has, where it can mean only that; else as it is.

    Where a text may be meant, a text stays one. Errors: msgspec.DecodeError for what is not JSON.
    """
    kind = _bare(kind)
    kinds = [_bare(each) for each in kind.types] if isinstance(kind, mi.UnionType) else [kind]
    if raw[:1] == b'"':
        return _text(raw, kinds)
    if raw[:1] in b"-0123456789" and any(map(_is_whole, kinds)):
        whole = _WHOLE.fullmatch(raw)
        floats = any(isinstance(each, mi.FloatType | mi.DecimalType) for each in kinds)
        return whole[1] if whole and not floats else raw
    if raw[:1] in b"[{":
        for each in kinds:
            if raw[:1] == b"[" and (items := _items(each)) is not None:
                return _array(raw, *items)
            if raw[:1] == b"{" and isinstance(each, (*_OBJECTS, mi.DictType)):
                return _object(raw, each)
    return raw


def _bare(kind: mi.Type) -> mi.Type:
    """The type without what is told of it."""
    return _bare(kind.type) if isinstance(kind, mi.Metadata) else kind


def _is_whole(kind: mi.Type) -> bool:
    """Whether it is a whole number, or one of some."""
    if isinstance(kind, mi.LiteralType):
        return all(isinstance(value, int) for value in kind.values)
    return isinstance(kind, mi.IntType) or (isinstance(kind, mi.EnumType) and _is_numbers(kind.cls))


def _is_numbers(enum: type) -> bool:
    return all(isinstance(each.value, int) for each in enum)  # type: ignore[attr-defined]  # an Enum


def _text(raw: bytes, kinds: list[mi.Type]) -> bytes:
    containers = (*_ARRAYS, *_OBJECTS, mi.DictType, mi.TupleType, mi.NamedTupleType)
    scalars = [each for each in kinds if not isinstance(each, containers)]
    if not all(_is_whole(each) or isinstance(each, mi.FloatType | mi.BoolType | mi.NoneType) for each in scalars):
        return raw
    inner = raw[1:-1]
    for each in scalars:
        if isinstance(each, mi.FloatType) and _NUMBER.fullmatch(inner):
            return inner
        if _is_whole(each) and (whole := _WHOLE.fullmatch(inner)):
            return whole[1]
        if isinstance(each, mi.BoolType) and inner.lower() in (b"true", b"false"):
            return inner.lower()
        if isinstance(each, mi.NoneType) and inner == b"null":
            return inner
    return raw


def _items(kind: mi.Type) -> tuple[list[mi.Type], mi.Type] | None:
    """The types of the first items of an array, and of all others; None for what is no array."""
    if isinstance(kind, _ARRAYS):
        return [], kind.item_type
    if isinstance(kind, mi.TupleType):
        return list(kind.item_types), mi.AnyType()
    if isinstance(kind, mi.NamedTupleType):
        return [field.type for field in kind.fields], mi.AnyType()
    return None


def _array(raw: bytes, first: list[mi.Type], others: mi.Type) -> bytes:
    values: list[Any] = msgspec.json.decode(raw, type=list[Raw])
    first += [others] * (len(values) - len(first))
    return b"[" + b",".join(loosened(bytes(each), kind) for each, kind in zip(values, first, strict=False)) + b"]"


def _object(raw: bytes, kind: mi.Type) -> bytes:
    values: dict[str, Any] = msgspec.json.decode(raw, type=dict[str, Raw])
    if isinstance(kind, mi.DictType):
        types = dict.fromkeys(values, kind.value_type)
    else:
        assert isinstance(kind, _OBJECTS)
        types = {field.encode_name: field.type for field in kind.fields}
    pairs = [(name, loosened(bytes(each), types.get(name, mi.AnyType()))) for name, each in values.items()]
    return b"{" + b",".join(msgspec.json.encode(name) + b":" + value for name, value in pairs) + b"}"
