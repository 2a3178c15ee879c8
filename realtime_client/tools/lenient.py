"""Arguments as models write them: "3" where a number is asked for, 3.0 for 3, "true", "null".

JSON in, JSON out, so that no number passes through another kind: what is read so is exactly what the model wrote.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw
from msgspec import inspect as mi

Loosen = Callable[[bytes], bytes]
"""Takes a JSON value, and returns it in the form that its type has, where it can mean only that; else itself.

Errors: msgspec.DecodeError for what is not JSON."""
_NUMBER = re.compile(rb"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_WHOLE = re.compile(rb"(-?(?:0|[1-9]\d*))(?:\.0+)?")
_LISTS = (mi.ListType, mi.SetType, mi.FrozenSetType, mi.VarTupleType)
_ARRAYS = (*_LISTS, mi.TupleType, mi.NamedTupleType)
_CLASSES = (mi.StructType, mi.DataclassType, mi.TypedDictType)
_OBJECTS = (*_CLASSES, mi.DictType)
_encode = msgspec.json.Encoder().encode
_array = msgspec.json.Decoder(list[Raw]).decode
_object = msgspec.json.Decoder(dict[str, Raw]).decode


def loosener(kind: mi.Type) -> Loosen:
    """Return what brings values of a type into form."""
    return _Maker().of(kind) or bytes


class _Maker:
    """Makes the functions for a type and those in it. A class may hold itself: it has one function."""

    def __init__(self) -> None:
        self._of_classes: dict[int, Loosen | None] = {}  # by the identity of its description

    def of(self, kind: mi.Type) -> Loosen | None:
        """The function for a type; None where there is nothing to do."""
        kind = _bare(kind)
        kinds = [_bare(each) for each in kind.types] if isinstance(kind, mi.UnionType) else [kind]
        text = _in_quotes([each for each in kinds if not isinstance(each, (*_ARRAYS, *_OBJECTS))])
        array = next((self._array(each) for each in kinds if isinstance(each, _ARRAYS)), None)
        members = next((self._object(each) for each in kinds if isinstance(each, _OBJECTS)), None)
        floats = any(isinstance(each, mi.FloatType | mi.DecimalType) for each in kinds)
        number = _whole if any(map(_is_whole, kinds)) and not floats else None
        if not (text or array or members or number):
            return None
        by_start = {b'"': text, b"[": array, b"{": members}

        def loosen(raw: bytes) -> bytes:
            found = by_start.get(raw[:1], number)
            return found(raw) if found is not None else raw

        return loosen

    def _array(self, kind: mi.Type) -> Loosen | None:
        first: list[Loosen | None] = []
        others: Loosen | None = None
        if isinstance(kind, _LISTS):
            others = self.of(kind.item_type)
        elif isinstance(kind, mi.TupleType):
            first = [self.of(each) for each in kind.item_types]
        elif isinstance(kind, mi.NamedTupleType):
            first = [self.of(field.type) for field in kind.fields]
        if others is None and not any(first):
            return None

        def loosen(raw: bytes) -> bytes:
            values: list[Any] = _array(raw)
            return _changed(raw, values, enumerate(first + [others] * (len(values) - len(first))))

        return loosen

    def _object(self, kind: mi.Type) -> Loosen | None:
        if isinstance(kind, mi.DictType):
            value = self.of(kind.value_type)
            if value is None:
                return None

            def loosen_all(raw: bytes) -> bytes:
                values: dict[str, Any] = _object(raw)
                return _changed(raw, values, [(name, value) for name in values])

            return loosen_all
        assert isinstance(kind, _CLASSES)
        key = id(kind)
        if key in self._of_classes:
            return lambda raw: (self._of_classes[key] or bytes)(raw)  # noqa: PLW0108 - it is not there yet
        self._of_classes[key] = None
        fields = {field.encode_name: made for field in kind.fields if (made := self.of(field.type))}

        def loosen(raw: bytes) -> bytes:
            values: dict[str, Any] = _object(raw)
            return _changed(raw, values, [(name, each) for name, each in fields.items() if name in values])

        self._of_classes[key] = loosen if fields else None
        return self._of_classes[key]


def _changed(raw: bytes, values: Any, looseners: Any) -> bytes:
    """An array or object with some of its values in form; itself when all were."""
    changed = False
    for key, loosen in looseners:
        if loosen is not None:
            value = bytes(values[key])
            found = loosen(value)
            if found is not value:
                values[key] = Raw(found)
                changed = True
    return _encode(values) if changed else raw


def _bare(kind: mi.Type) -> mi.Type:
    """The type without what is told of it."""
    return _bare(kind.type) if isinstance(kind, mi.Metadata) else kind


def _is_whole(kind: mi.Type) -> bool:
    """Whether it is a whole number, or one of some."""
    if isinstance(kind, mi.LiteralType):
        return all(isinstance(value, int) for value in kind.values)
    if isinstance(kind, mi.EnumType):
        return all(isinstance(each.value, int) for each in kind.cls)
    return isinstance(kind, mi.IntType)


def _whole(raw: bytes) -> bytes:
    found = _WHOLE.fullmatch(raw)
    return found[1] if found else raw


def _in_quotes(kinds: list[mi.Type]) -> Loosen | None:
    """For a value in quotes: where a text may be meant, it stays one."""
    whole = any(map(_is_whole, kinds))
    number, truth, null = (
        any(isinstance(each, wanted) for each in kinds) for wanted in (mi.FloatType, mi.BoolType, mi.NoneType)
    )
    scalars = (mi.FloatType, mi.BoolType, mi.NoneType)
    if not kinds or not all(_is_whole(each) or isinstance(each, scalars) for each in kinds):
        return None

    def loosen(raw: bytes) -> bytes:
        inner = raw[1:-1]
        if number and _NUMBER.fullmatch(inner):
            return inner
        if whole and (found := _WHOLE.fullmatch(inner)):
            return found[1]
        if truth and inner.lower() in (b"true", b"false"):
            return inner.lower()
        return inner if null and inner == b"null" else raw

    return loosen
