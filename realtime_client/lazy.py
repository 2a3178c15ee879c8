"""Public names of a package that are loaded when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def loader(package: str, where: Mapping[str, str]) -> Callable[[str], object]:
    """Return a module's `__getattr__` (PEP 562). where: public name -> the module that defines it, or is it."""

    def load(name: str) -> object:
        place = where.get(name)
        if place is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(f".{place}", package)
        value = module if place == name else getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    return load
