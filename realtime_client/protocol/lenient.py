"""A second look at a server's message that could not be read at first.

Servers leave fields out, send null for zero, `0.0` for `0`, a sentence where an object belongs, half an emoji. Whatever
can be understood is: a message is given up only when its purpose is missing. Pure: JSON data in, JSON data out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")
Json = dict[str, Any]

_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(("response_id", "item_id", "call_id", "id", "text", "transcript", "arguments", "speaker"), ""),
    **dict.fromkeys(("output_index", "content_index", "audio_start_ms", "audio_end_ms", "received_at"), 0),
    **dict.fromkeys(("start", "end"), 0.0),
    "error": {},
    "response": {},
}
"""What stands for a field that a message has to have and that is missing or no value of its kind."""
_MISSING = re.compile(r"missing required field `(\w+)`")
_PATH = re.compile(r"at `\$(.*)`$")
_STEP = re.compile(r"\.(\w+)|\[[^\]]*\]")
_MOST_REPAIRS = 16
_SURROGATE = re.compile("[\ud800-\udfff]")


def parse(frame: bytes | str) -> Any:
    """Read JSON that the strict reader refuses: half a surrogate pair, bytes that are not UTF-8.

    Errors: ValueError when it is not JSON even so; RecursionError when it is too deep.
    """
    text = frame if isinstance(frame, str) else frame.decode("utf-8", "replace")
    return json.loads(text, parse_constant=_no_number)


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def clean(node: Any) -> Any:
    """Put whole characters for surrogate halves: a pair becomes its character, a lone one U+FFFD."""
    if isinstance(node, str):
        return whole_text(node)
    if isinstance(node, dict):
        return {clean(key): clean(value) for key, value in node.items()}
    return [clean(each) for each in node] if isinstance(node, list) else node


def whole_text(text: str) -> str:
    """The same text without surrogates."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def without_nulls(node: Any) -> Any:
    """A copy without the fields that are null."""
    if isinstance(node, dict):
        return {key: without_nulls(value) for key, value in node.items() if value is not None}
    return [without_nulls(each) for each in node] if isinstance(node, list) else node


def read(data: Json, convert: Callable[[Json], T]) -> T:
    """Convert a message, mending it where that is needed.

    First as it is, then with null for "not there", then field by field: one that is missing or of the wrong kind gets a
    default if it is required, and is left out if not.
    Errors: msgspec.ValidationError when the message's purpose is missing.
    """
    data = {**data, **_error_as_object(data)}
    try:
        return convert(data)
    except msgspec.ValidationError as error:
        first = error
    data = without_nulls(data)
    for _ in range(_MOST_REPAIRS):
        try:
            return convert(data)
        except msgspec.ValidationError as error:
            if not _mend(data, str(error)):
                break
    raise first


def _mend(data: Json, error: str) -> bool:
    """Change what an error of msgspec complains about; False when that cannot be done."""
    found = _PATH.search(error)
    steps = [key or None for key in _STEP.findall(found[1])] if found else []
    missing = _MISSING.search(error)
    name = missing[1] if missing else ""
    if not missing:
        while steps and steps[-1] is None:
            steps.pop()  # one element of a list is wrong: the list is left out
        if not steps:
            return False
        name = steps.pop() or ""
    if name == "type" and missing and steps:
        default: Any = "message"  # an item or a part that does not say what it is
    elif name in _DEFAULTS:
        default = _DEFAULTS[name]
    elif missing:
        return False
    else:
        default = None
    changed = False
    for node in _nodes(data, steps):
        if missing and name in node:
            continue
        changed = True
        if default is None:
            node.pop(name, None)
        else:
            node[name] = dict(default) if isinstance(default, dict) else default
    return changed


def _nodes(data: Any, steps: list[str | None]) -> list[Json]:
    """The objects at a path; None in it stands for every element of a list."""
    nodes = [data]
    for step in steps:
        if step is None:
            nodes = [each for node in nodes if isinstance(node, list) for each in node]
        else:
            nodes = [node[step] for node in nodes if isinstance(node, dict) and step in node]
    return [node for node in nodes if isinstance(node, dict)]


# --- errors, which every server spells its own way --------------------------------------------------------------------


def _error_as_object(data: Json) -> Json:
    """The fields of a message that tell of an error, in the protocol's shape."""
    kind = data.get("type")
    if kind == "error":
        told = data.get("error")
        if told is None:
            told = {key: value for key, value in data.items() if key not in {"type", "event_id"}}
        if isinstance(told, int | float):
            told = str(told)
        return {"error": error_object(told)}
    if kind == "conversation.item.input_audio_transcription.failed":
        return {"error": error_object(data.get("error"))}
    if kind == "response.done" and isinstance(data.get("response"), dict):
        details = data["response"].get("status_details")
        if isinstance(details, dict) and details.get("error") is not None:
            details = {**details, "error": error_object(details["error"])}
        elif isinstance(details, str):
            details = {"error": {"message": details}}
        return {"response": {**data["response"], "status_details": details}}
    return {}


def error_object(told: Any) -> Json:
    """What a server says about an error, in whatever shape, as `{type, message, code, param, event_id}`.

    Known shapes: the protocol's own; a sentence; `{"error": ...}`; `{"detail": ...}` (a sentence, or a list of
    `{"loc", "msg"}`); `{"message": ...}`; a list of any of these.
    """
    if isinstance(told, str):
        return {"message": told}
    if isinstance(told, list):
        return {"message": "; ".join(filter(None, (_sentence(each) for each in told[:10])))}
    if not isinstance(told, dict):
        return {}
    inner = told.get("error")
    if inner is not None and not told.get("message"):
        return {**_facts(told), **error_object(inner)}
    message = next((said for name in _WORDS if (said := _sentence(told.get(name)))), "")
    return {**_facts(told), "message": message}


_WORDS = ("message", "detail", "msg", "error_description", "description", "reason", "title")


def _facts(told: Json) -> Json:
    """Code, type, parameter and event id, as text."""
    names = ("type", "code", "param", "event_id")
    return {name: str(told[name]) for name in names if isinstance(told.get(name), str | int) and told[name] != ""}


def _sentence(node: Any) -> str:
    """Some node of an error as words."""
    if isinstance(node, str):
        return node
    if isinstance(node, list):
        return "; ".join(filter(None, (_sentence(each) for each in node[:10])))
    if isinstance(node, dict):
        where = node.get("loc")
        says = next((said for name in ("msg", *_WORDS) if (said := _sentence(node.get(name)))), "")
        if says and isinstance(where, list):
            return f"{'.'.join(map(str, where[:8]))}: {says}"
        return says or json.dumps(node, ensure_ascii=False)[:300]
    return "" if node is None else str(node)
