"""Reading JSON that may be anything: a value of an unexpected type counts as missing. Pure."""

from __future__ import annotations

import math
from typing import Any


def number(node: Any, key: str) -> float | None:
    """Return a finite number, or None."""
    value = node.get(key) if isinstance(node, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:  # a whole number may have hundreds of digits
        return None
    return found if math.isfinite(found) else None


def text(node: Any, key: str) -> str:
    """Return a string, '' for anything else."""
    value = node.get(key) if isinstance(node, dict) else None
    return value if isinstance(value, str) else ""


def table(node: Any, key: str) -> dict[str, Any]:
    """Return an object, {} for anything else."""
    value = node.get(key) if isinstance(node, dict) else None
    return value if isinstance(value, dict) else {}


def listed(node: Any, key: str) -> list[Any]:
    """Return a list, [] for anything else."""
    value = node.get(key) if isinstance(node, dict) else None
    return value if isinstance(value, list) else []
