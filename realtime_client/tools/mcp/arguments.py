"""The arguments of a call, judged by the JSON schema that a server gave for its tool. Does no I/O.

The schema is a stranger's, and the server judges its arguments itself: here a model's slips become words that it can
act on. So what could take long or leave this machine is left to the server: regular expressions, formats, references to
other documents, `unevaluated...`; and the work on one call is bounded. A schema that cannot be judged by lets every
JSON object through.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import msgspec

from realtime_client import logs
from realtime_client.errors import MissingExtraError
from realtime_client.escape import shortened
from realtime_client.tools.tool import BadArgumentsError

MOST_STEPS = 10_000
"""Keywords of a schema that are looked at for one call: a tenth of a second at most."""
_MOST_UNIQUE = 300  # `uniqueItems` may compare each with each
_SHOWN = 300
_LEFT_OUT = (
    *("pattern", "patternProperties", "format", "contentEncoding", "contentMediaType", "contentSchema"),
    *("unevaluatedItems", "unevaluatedProperties", "$dynamicRef", "$recursiveRef"),
)
_DRAFTS = {"draft-03": "4", "draft-04": "4", "draft-06": "6", "draft-07": "7", "2019-09": "201909"}
Keyword = Callable[[Any, Any, Any, Any], Any]

log = logs.Log("tools")


class Arguments:
    """Judges the arguments of one tool. Errors: MissingExtraError."""

    def __init__(self, tool: str, schema: Mapping[str, Any]) -> None:
        self._tool = tool
        self._validator: Any = _bounded(_draft(schema))(schema, registry=_nothing_fetched())

    def judged(self, text: str) -> dict[str, Any]:
        """Return the arguments in a model's JSON text; none at all are an empty object. Errors: BadArgumentsError."""
        try:
            value = msgspec.json.decode(text) if text.strip() else {}
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise BadArgumentsError(f"the arguments are no valid JSON: {shortened(str(error), _SHOWN)}") from None
        if not isinstance(value, dict):
            raise BadArgumentsError("the arguments must be one JSON object")
        if problem := self._problem(value):
            raise BadArgumentsError(f"the arguments do not fit: {problem}")
        return value

    def _problem(self, value: dict[str, Any]) -> str:
        """Say what is wrong; '' for nothing, or when the schema cannot be judged by."""
        _work.left = MOST_STEPS
        try:
            error = next(self._validator.iter_errors(value), None)
            return "" if error is None else _in_words(error)
        except Exception as error:  # noqa: BLE001 - a stranger's schema may lead to any
            why = f"{type(error).__name__}: {shortened(str(error))}"
            log.info("not_judged", tool=shortened(self._tool), why=why)
            return ""


class _TooMuchError(Exception):
    """The work on one call is at its limit."""


_work = threading.local()


def _in_words(error: Any) -> str:
    from jsonschema.exceptions import best_match

    nearest: Any = best_match([error]) or error
    return f"{shortened(nearest.json_path)}: {shortened(nearest.message, _SHOWN)}"


def _draft(schema: Mapping[str, Any]) -> str:
    """The draft that a schema says it is of; 2020-12 is what the protocol means where it says nothing."""
    said = schema.get("$schema")
    return next((number for name, number in _DRAFTS.items() if isinstance(said, str) and name in said), "202012")


@cache
def _bounded(draft: str) -> Any:
    """Return a draft's validator with what is left out left out, and the rest counted."""
    try:
        import jsonschema
    except ImportError:
        raise MissingExtraError("mcp", "mcp") from None
    base = getattr(jsonschema, f"Draft{draft}Validator")
    keywords = {name: _counted(_sane(name, keyword)) for name, keyword in base.VALIDATORS.items()}
    return jsonschema.validators.extend(base, keywords | dict.fromkeys(_LEFT_OUT, _ignored))


@cache
def _nothing_fetched() -> Any:
    from referencing import Registry

    return Registry()


def _ignored(_validator: Any, _value: Any, _instance: Any, _schema: Any) -> None:
    """Find nothing."""


def _counted(keyword: Keyword) -> Keyword:
    def judge(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        _work.left -= 1
        if _work.left < 0:
            raise _TooMuchError(f"more than {MOST_STEPS} steps")
        return keyword(validator, value, instance, schema)

    return judge


def _sane(name: str, keyword: Keyword) -> Keyword:
    """Ignore a keyword where its value is senseless and would find faults that are none, or be slow."""
    if name in ("required", "enum"):
        return lambda validator, value, instance, schema: (
            keyword(validator, value, instance, schema) if isinstance(value, list) else None
        )
    if name == "additionalProperties":  # it would search for the patterns
        return lambda validator, value, instance, schema: (
            None if "patternProperties" in schema else keyword(validator, value, instance, schema)
        )
    if name == "uniqueItems":
        return lambda validator, value, instance, schema: (
            None
            if isinstance(instance, list) and len(instance) > _MOST_UNIQUE
            else keyword(validator, value, instance, schema)
        )
    return keyword
