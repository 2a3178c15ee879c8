"""JSON schemas for servers that do not follow references."""

from __future__ import annotations

from typing import Any

_MOST_NODES = 10_000


def inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without `$ref` to places in itself: what they name stands in their place.

    Where a definition holds itself, and behind 10,000 places, stands an object of any kind: both have no end.
    """
    return _Inliner(schema).whole()


class _Inliner:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._left = _MOST_NODES

    def whole(self) -> dict[str, Any]:
        found = self._of(self._root, ())
        assert isinstance(found, dict)
        return {name: value for name, value in found.items() if name not in ("$defs", "definitions")}

    def _of(self, node: Any, inside: tuple[str, ...]) -> Any:
        self._left -= 1
        if isinstance(node, list):
            return [self._of(each, inside) for each in node]
        if not isinstance(node, dict):
            return node
        reference = node.get("$ref")
        if not (isinstance(reference, str) and reference.startswith("#")):
            return {
                name: value if name in ("$defs", "definitions") and node is self._root else self._of(value, inside)
                for name, value in node.items()
            }
        beside = {name: self._of(value, inside) for name, value in node.items() if name != "$ref"}
        target = self._at(reference)
        if target is None or reference in inside or self._left < 0:
            return {"type": "object", **beside}
        return {**self._of(target, (*inside, reference)), **beside}

    def _at(self, reference: str) -> dict[str, Any] | None:
        """What a JSON pointer (RFC 6901) names; None for nothing, and for the whole, which would hold itself."""
        node: Any = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            node = node.get(key) if isinstance(node, dict) else None
        return node if isinstance(node, dict) and node is not self._root else None
