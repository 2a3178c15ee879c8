"""Reading faults: the short form of the command line, and objects as in a YAML file. Pure but for `faults_of_file`."""

from __future__ import annotations

import difflib
import fnmatch
import math
import random
import re
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec

from realtime_client.errors import UsageError

from .fault import ACTIONS, BROKEN, CLIENT_TYPES, SERVER_TYPES, Fault, Span

_SPAN = re.compile(r"([1-9][0-9]{0,8})(?:(-)([1-9][0-9]{0,8})?)?")
_BYTES = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kM]?)B?")
_SECONDS = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ms|s|)")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}")  # RFC 9110, section 5.6.2
_OWN_HEADERS = {"content-type", "content-length", "connection", "transfer-encoding"}
_MOST_FAULTS = 1_000
_MAX_FILE_BYTES = 1_000_000
_LONGEST_REASON = 123  # bytes: RFC 6455, section 5.5
_CLOSE_CODES = {1000, 1001, 1002, 1003, *range(1007, 1015)}  # those that may be on the wire: RFC 6455, section 7.4.1
_MOST_S = 1e6


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """What is to go wrong. seed: what chance is made from; None for another one each time."""

    faults: tuple[Fault, ...]
    seed: int | None = None

    @property
    def random(self) -> bool:
        """Whether chance decides something."""
        return any(fault.random for fault in self.faults)

    def seeded(self) -> Faults:
        """Return the same with a seed."""
        return self if self.seed is not None else msgspec.structs.replace(self, seed=random.randrange(10**6))  # noqa: S311


def parse_faults(*specs: str | Mapping[str, Any] | Fault) -> Faults:
    """Read faults: texts in the short form, each perhaps several with `;`, and objects as in a YAML file.

    Errors: UsageError, which names the place.
    """
    faults: list[Fault] = []
    seed = None
    for spec in specs:
        if isinstance(spec, Fault):
            faults.append(spec)
            continue
        given: Iterable[Any] = _split(spec) if isinstance(spec, str) else (spec,)
        for number, each in enumerate(given, 1):
            if isinstance(each, str) and each.startswith("seed="):
                seed = _whole(each.removeprefix("seed="), f"faults: {each}: seed")
            elif isinstance(each, str):
                faults.append(_fault(_fields(each), f"fault `{each}`"))
            else:
                faults.append(_fault(each, f"fault {number}"))
    return Faults(faults=tuple(faults), seed=seed)


def read_faults(given: Iterable[str]) -> Faults:
    """Read what was given on a command line: short forms, and names of YAML files. Errors: UsageError."""
    parts = [
        faults_of_file(Path(each)) if each.lower().endswith((".yaml", ".yml")) else parse_faults(each) for each in given
    ]
    seeds = [part.seed for part in parts if part.seed is not None]
    return checked(Faults(faults=tuple(fault for part in parts for fault in part.faults), seed=next(iter(seeds), None)))


def faults_of_file(path: Path) -> Faults:
    """Read a YAML file: a list of faults, or an object with `faults` and perhaps `seed`. Errors: UsageError."""
    import yaml

    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
        if len(data) > _MAX_FILE_BYTES:
            raise UsageError(f"{path}: a file of faults has at most {_MAX_FILE_BYTES // 1_000_000} MB")
        tree = yaml.safe_load(data.decode())
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        raise UsageError(
            f"{where}: this is no YAML: {' '.join(str(getattr(error, 'problem', error)).split())}"
        ) from None
    if isinstance(tree, list):
        tree = {"faults": tree}
    if not isinstance(tree, dict) or not isinstance(tree.get("faults"), list) or set(tree) - {"faults", "seed"}:
        raise UsageError(f"{path}: a list of faults is wanted, or an object with `faults` and `seed`")
    seed = tree.get("seed")
    faults = []
    for number, each in enumerate(tree["faults"], 1):
        where = f"{path}: fault {number}"
        faults.append(_fault(_fields(each) if isinstance(each, str) else each, where))
    return Faults(faults=tuple(faults), seed=None if seed is None else _whole(seed, f"{path}: seed"))


def checked(faults: Faults) -> Faults:
    """Return faults that are some, and not too many. Errors: UsageError."""
    if not faults.faults:
        raise UsageError("no fault is given: write, for example, `rst@3s`")
    if len(faults.faults) > _MOST_FAULTS:
        raise UsageError(f"at most {_MOST_FAULTS} faults are taken, not {len(faults.faults)}")
    return faults


# --- the short form ---------------------------------------------------------------------------------------------------


def _split(text: str) -> list[str]:
    return [each.strip() for each in re.split(r"[;\n]", text) if each.strip()]


def _fields(text: str) -> dict[str, Any]:
    """ACTION[:VALUE][,NAME=VALUE...][@WHEN...] as an object."""
    what, *when = text.split("@")
    head, *options = what.split(",")
    do, colon, value = head.partition(":")
    fields: dict[str, Any] = {"do": do.strip()}
    action = ACTIONS.get(fields["do"])
    if colon:
        if action is None or not action.value:
            raise UsageError(_unknown_action(do) if action is None else f"fault `{text}`: {do} takes no value")
        fields[action.value] = value.strip()
    for option in options:
        name, equals, said = option.partition("=")
        name = name.strip()
        if not equals:
            raise UsageError(f"fault `{text}`: `{option}` is no NAME=VALUE; a text with a comma needs a YAML file")
        if fields["do"] == "refuse":
            fields.setdefault("headers", {})[name] = said.strip()
        else:
            _put(fields, _NAMES.get(name, name), said.strip(), text)
    for condition in when:
        _put(fields, *_condition(condition.strip()), text)
    return fields


_NAMES = {"for": "for_s", "jitter": "jitter_s", "every": "every_s", "p": "probability"}
_CONDITIONS = ("sent", "received", "p", "connections", "times")


def _condition(text: str) -> tuple[str, Any]:
    """(field, value) of what stands behind an `@`."""
    name, equals, value = text.partition("=")
    if equals and name.strip() in _CONDITIONS:
        return _NAMES.get(name.strip(), name.strip()), value.strip()
    if text in ("client", "server"):
        return "side", text
    return ("after_s", text) if _SECONDS.fullmatch(text) else ("event", text)


def _put(fields: dict[str, Any], name: str, value: Any, text: str) -> None:
    if name in fields:
        raise UsageError(f"fault `{text}`: {name} is given twice")
    fields[name] = value


# --- fields to faults -------------------------------------------------------------------------------------------------


def _fault(given: Any, where: str) -> Fault:
    """Check the fields of a fault. Errors: UsageError."""
    if not isinstance(given, Mapping):
        raise UsageError(f"{where}: an object with `do` is wanted, or a text as `rst@3s`")
    do = given.get("do")
    action = ACTIONS.get(do) if isinstance(do, str) else None
    if action is None or not isinstance(do, str):
        raise UsageError(f"{where}: {_unknown_action(do)}")
    known = {*_WHEN, action.value, *action.options, "do"} - {""}
    if unknown := [str(name) for name in given if name not in known]:
        raise UsageError(f"{where}: {do} takes no `{unknown[0]}`; it takes {', '.join(sorted(known - {'do'}))}")
    fields: dict[str, Any] = {"do": do}
    for name, value in given.items():
        if name != "do":
            fields[name] = _READERS[name](value, f"{where}: {name}")
    if action.needs and action.value not in fields:
        raise UsageError(f"{where}: {do} needs `{action.value}`, in the short form behind a colon: {do}:VALUE")
    _place(fields, action.of, where)
    return Fault(**fields)


def _unknown_action(do: Any) -> str:
    near = difflib.get_close_matches(str(do), ACTIONS, 1)
    return f"`{do}` is no fault; " + (f"did you mean {near[0]}?" if near else f"there are {', '.join(ACTIONS)}")


def _place(fields: dict[str, Any], of: str, where: str) -> None:
    """Find out whose messages it waits for, and refuse what cannot come together."""
    event = fields.pop("event", "")
    if "#" in event:
        event, _, nth = event.partition("#")
        fields["nth"] = _span(nth, f"{where}: #")
    if event:
        fields["event"] = event
        fields["side"] = _side(event, fields.get("side", ""), where)
    elif of == "message":
        fields.setdefault("side", "server")
    if of == "handshake":
        wrong = sorted(fields.keys() & {"event", "side", "after_s", "sent", "received", "nth"})
        if wrong:
            raise UsageError(f"{where}: {fields['do']} comes before all messages: leave out {wrong[0]}")
    if fields.get("how") == "surrogate" and fields.get("side") == "client":
        raise UsageError(f"{where}: corrupt:surrogate is for the server's messages")


def _side(event: str, said: str, where: str) -> str:
    """Return whose messages an event fits; where it fits those of both sides, it means what the client gets."""
    sides = {
        side
        for side, types in (("server", SERVER_TYPES), ("client", CLIENT_TYPES))
        if any(fnmatch.fnmatchcase(kind, event) for kind in types)
    }
    if not sides:
        near = difflib.get_close_matches(event, SERVER_TYPES | CLIENT_TYPES, 1)
        raise UsageError(f"{where}: no message has the type `{event}`" + (f"; did you mean {near[0]}?" if near else ""))
    if said and said not in sides:
        raise UsageError(f"{where}: `{event}` is no message of the {said}")
    return said or ("server" if "server" in sides else "client")


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise UsageError(f"{where}: a text of one line is wanted")
    return value


def _reason(value: Any, where: str) -> str:
    if len(_text(value, where).encode(errors="replace")) > _LONGEST_REASON:
        raise UsageError(f"{where}: at most {_LONGEST_REASON} bytes fit into a close frame")
    return str(value)


def _number(value: Any, where: str, most: float, form: str) -> float:
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number <= most:
        raise UsageError(f"{where}: {form} is wanted, not {value!r}")
    return number


def _whole(value: Any, where: str, form: str = "a whole number from 0") -> int:
    number = _number(value, where, 2**53, form)
    if number != int(number):
        raise UsageError(f"{where}: {form} is wanted, not {value!r}")
    return int(number)


def _count(value: Any, where: str) -> int:
    if (number := _whole(value, where, "a whole number from 1")) < 1:
        raise UsageError(f"{where}: a whole number from 1 is wanted, not {value!r}")
    return number


def _seconds(value: Any, where: str) -> float:
    form = "seconds, as 3 or 0.5s or 200ms,"
    if isinstance(value, str) and (found := _SECONDS.fullmatch(value)):
        return _number(found[1], where, _MOST_S, form) / (1_000 if found[2] == "ms" else 1)
    return _number(value, where, _MOST_S, form)


def _bytes(value: Any, where: str) -> int:
    if isinstance(value, str) and (found := _BYTES.fullmatch(value)):
        value = float(found[1]) * {"": 1, "k": 1_000, "M": 1_000_000}[found[2]]
    return _count(value, where)


def _probability(value: Any, where: str) -> float:
    return _number(value, where, 1, "a number from 0 to 1")


def _span(value: Any, where: str) -> Span:
    found = _SPAN.fullmatch(str(value))
    if found is None or (found[3] and int(found[3]) < int(found[1])):
        raise UsageError(
            f"{where}: a number from 1 is wanted, or two as 1-3, or 2- for all from the second: not {value!r}"
        )
    if not found[2]:
        return int(found[1]), int(found[1])
    return int(found[1]), int(found[3]) if found[3] else None


def _code(value: Any, where: str) -> int:
    code = _whole(value, where)
    if code not in _CLOSE_CODES and not 3000 <= code < 5000:
        other = " (a line that drops without a close frame is eof or rst)" if code in (1005, 1006, 1015) else ""
        raise UsageError(
            f"{where}: no close frame may have {code}{other}; take 1000 to 1003, 1007 to 1014, 3000 to 4999"
        )
    return code


def _status(value: Any, where: str) -> int:
    status = _whole(value, where)
    if status not in set(HTTPStatus) or status < 300:
        raise UsageError(f"{where}: an HTTP status of a refusal is wanted, as 503, not {value!r}")
    return status


def _headers(value: Any, where: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: an object of names and values is wanted")
    headers = []
    for name, said in value.items():
        if not _TOKEN.fullmatch(str(name)) or str(name).lower() in _OWN_HEADERS:
            raise UsageError(f"{where}: `{name}` cannot be set")
        text = str(said)
        if not (text.isascii() and text.isprintable()):
            raise UsageError(f"{where}: the value of `{name}` is not visible ASCII")
        headers.append((str(name), text))
    return tuple(headers)


def _one_of(*words: str) -> Callable[[Any, str], str]:
    def read(value: Any, where: str) -> str:
        if value not in words:
            raise UsageError(f"{where}: one of {', '.join(words)} is wanted, not {value!r}")
        return str(value)

    return read


_WHEN: dict[str, Callable[[Any, str], Any]] = {
    "event": _text,
    "side": _one_of("server", "client"),
    "after_s": _seconds,
    "sent": _bytes,
    "received": _bytes,
    "probability": _probability,
    "connections": _span,
    "times": _count,
}
_READERS: dict[str, Callable[[Any, str], Any]] = _WHEN | {
    "for_s": _seconds,
    "status": _status,
    "headers": _headers,
    "code": _code,
    "reason": _reason,
    "error": _text,
    "message": _text,
    "delay_s": _seconds,
    "jitter_s": _seconds,
    "bytes_per_s": _bytes,
    "size": _count,
    "every_s": _seconds,
    "how": _one_of(*BROKEN),
}
