"""Judging calls of tools: one call and what became of it, and all calls together. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from realtime_client.batch.result import ToolUse
from realtime_client.batch.scenario import Lengths, Times, ToolCall, ToolCheck, ToolsCheck, ValueCheck, seconds
from realtime_client.escape import shortened
from realtime_client.session.tooling import NOBODY, how_to_allow

from . import words
from .evidence import Evidence, Found, Means, many, quoted

_NO_ANSWER = "there was no answer"


def tool(value: Any, evidence: Evidence, means: Means) -> Iterator[Found]:
    """A tool is called so, at least once or so often."""
    wanted: ToolCheck
    for index, wanted in many(value):
        expected, seen = _expected(wanted), _seen(evidence.tools)
        called = [use for use in evidence.tools if use.name == wanted.name]
        problems = [_difference(wanted, use, means) for use in called]
        fitting = problems.count("")
        why = next((problem for problem in reversed(problems) if problem), "")
        if wanted.times is None:
            yield Found(fitting > 0, expected, seen, why or f"{expected} was not called: {seen}", index=index)
            continue
        least, most, often = _range(wanted.times)
        message = f"expected {often} calls of {expected}, {fitting} came: {seen}"
        if not called and not least:  # none is enough
            missing = _nothing_to_judge(wanted.name, evidence)
            yield Found(
                not missing, expected, seen, f"expected {often} calls of {expected}, but {missing}", index=index
            )
        else:
            message += f"; {why}" if why and fitting < least else ""
            yield Found(least <= fitting <= most, expected, seen, message, index=index)


def _range(times: int | Times) -> tuple[int, float, str]:
    """Return least, most, and both in words."""
    if isinstance(times, int):
        return times, times, str(times)
    least, most = times.min or 0, math.inf if times.max is None else times.max
    if times.max is None:
        return least, most, f"at least {least}"
    return least, most, f"{least} to {times.max}" if least else f"at most {times.max}"


def _nothing_to_judge(name: str, evidence: Evidence) -> str:
    """Why it says nothing that a tool was not called; '' where it does."""
    if not evidence.answered:
        return _NO_ANSWER
    return "" if evidence.offered is None or name in evidence.offered else f"no tool {name} was offered"


def no_tool(value: bool | str, evidence: Evidence, _means: Means) -> Iterator[Found]:  # noqa: FBT001 - as written
    """No tool is called, or not this one."""
    if value is False:
        return
    expected = "no tool call" if value is True else f"no call of {value}"
    calls = [use for use in evidence.tools if value is True or use.name == value]
    missing = "" if calls else _NO_ANSWER if not evidence.answered else ""
    if isinstance(value, str) and not calls:
        missing = _nothing_to_judge(value, evidence)
    if missing:
        yield Found(False, expected, missing, f"expected {expected}, but {missing}")
    else:
        seen = _seen(calls) if calls else "none"
        yield Found(not calls, expected, seen, f"expected {expected}: {seen}")


# --- one call ---------------------------------------------------------------------------------------------------------


def _difference(wanted: ToolCheck, use: ToolUse, means: Means) -> str:
    """What is wrong with a call; '' when it fits."""
    problem = _arguments_differ(wanted, use)
    if problem:
        return problem
    given = _arguments(use)
    assert isinstance(given, dict) or not wanted.where
    for name, value in wanted.where.items():
        if name not in given:
            return f"{use.name} was called without {name!r}: {quoted(use.arguments)}"
        problem = _odd(value, given[name], _text(given[name]), means, typed=True)
        if problem:
            return f"{use.name}: {name} {problem}"
    if wanted.status is not None and use.status != wanted.status:
        error = f": {use.error}" if use.error else ""
        error += how_to_allow(use.name) if use.error == NOBODY else ""
        return f"{use.name} {_ended(use)}, expected {wanted.status}{error}"
    if wanted.result is not None:
        problem = _odd(wanted.result, _scalar(use.output), use.output, means, typed=False)
        if problem:
            return f"{use.name}: the result {problem}"
    return _times_differ(wanted, use)


def _arguments(use: ToolUse) -> Any:
    """The arguments of a call; None when they are not JSON."""
    try:
        return json.loads(use.arguments or "{}")
    except (ValueError, RecursionError):
        return None


def _arguments_differ(wanted: ToolCall, use: ToolUse) -> str:
    given = _arguments(use)
    if given is None:
        return f"the arguments of {use.name} are not valid JSON: {quoted(use.arguments)}"
    if not isinstance(given, dict):
        return f"the arguments of {use.name} are not an object: {quoted(use.arguments)}"
    for name, value in wanted.arguments.items():
        if name not in given:
            return f"{use.name} was called without {name!r}: {quoted(use.arguments)}"
        if not _same(value, given[name]):
            return f"{use.name} was called with {name} = {_plain(given[name])}, expected {_plain(value)}"
    return ""


def _times_differ(wanted: ToolCheck, use: ToolUse) -> str:
    if wanted.within is not None and (use.at_ms is None or use.at_ms > seconds(wanted.within) * 1000):
        at = "at a time that is not known" if use.at_ms is None else f"after {use.at_ms:.0f} ms"
        return f"{use.name} was called {at}, not within {wanted.within}"
    if wanted.duration is None:
        return ""
    if use.duration_ms is None:
        return f"{use.name} never worked on the call: it {_ended(use)}"
    return _length_differs(wanted.duration, use.duration_ms, use.name)


def _length_differs(lengths: Lengths, took_ms: float, name: str) -> str:
    for limit, word, wrong in ((lengths.min, "least", -1), (lengths.max, "most", 1)):
        if limit is not None and (took_ms - seconds(limit) * 1000) * wrong > 0:
            return f"{name} worked for {took_ms:.0f} ms, expected at {word} {limit}"
    return ""


def _odd(wanted: ValueCheck, value: Any, text: str, means: Means, *, typed: bool) -> str:
    """What is wrong with a value, as the end of a sentence; '' when it fits. typed: a text is no number."""
    if wanted.equals is not None and not _equal(wanted, value, text, typed=typed):
        near = f" within {wanted.tolerance:g}" if wanted.tolerance is not None else ""
        return f"is {_shown(value)}, expected {_plain(wanted.equals)}{near}"
    for key, fits, wrong in (
        ("contains", words.holds, "does not contain"),
        ("lacks", lambda seen, part: not words.holds(seen, part), "contains"),
        ("matches", lambda seen, part: means.search(part, seen), "does not match"),
    ):
        for _, part in many(getattr(wanted, key) or []):
            if not fits(text, part):
                return f"{wrong} {quoted(part)}: {quoted(text)}"
    for limit, word, wrong_way in ((wanted.min, "least", -1), (wanted.max, "most", 1)):
        if limit is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"is no number: {_shown(value)}"
        if not (value - limit) * wrong_way <= 0:
            return f"is {value:g}, expected at {word} {limit:g}"
    return ""


def _equal(wanted: ValueCheck, value: Any, text: str, *, typed: bool) -> bool:
    if isinstance(wanted.equals, str):
        return words.same(text, wanted.equals) and (isinstance(value, str) or not typed)
    if wanted.tolerance is not None and isinstance(value, int | float) and not isinstance(value, bool):
        return abs(value - float(wanted.equals or 0)) <= wanted.tolerance + 1e-12
    return _same(wanted.equals, value)


def _scalar(output: str) -> Any:
    """A result that is a number or a switch, as such; any other as text."""
    try:
        value = json.loads(output)
    except (ValueError, RecursionError):
        return output
    return value if isinstance(value, int | float) else output


def _same(wanted: Any, given: Any) -> bool:
    """Equality in which numbers compare by value and objects contain at least what is wanted; true is not a number."""
    if isinstance(wanted, bool) or isinstance(given, bool):
        return wanted is given
    if isinstance(wanted, int | float) and isinstance(given, int | float):
        return math.isclose(wanted, given, rel_tol=1e-9, abs_tol=1e-12)
    if isinstance(wanted, dict) and isinstance(given, dict):
        return all(name in given and _same(value, given[name]) for name, value in wanted.items())
    if isinstance(wanted, list) and isinstance(given, list):
        return len(wanted) == len(given) and all(map(_same, wanted, given))
    return bool(wanted == given)


# --- all calls together -----------------------------------------------------------------------------------------------


def tools(wanted: ToolsCheck, evidence: Evidence, _means: Means) -> Iterator[Found]:
    """The order of all calls, and which there are."""
    uses, seen = evidence.tools, _seen(evidence.tools)
    judged: list[tuple[str, str, str]] = []
    if wanted.order is not None:
        next_to = ", one right after the other" if wanted.adjacent else ""
        expected = f"{_listed(wanted.order)} in this order{next_to}"
        judged.append(("order", expected, _out_of_order(wanted.order, uses, adjacent=bool(wanted.adjacent))))
    if wanted.exactly is not None:
        judged.append(("exactly", f"exactly {_listed(wanted.exactly)}", _not_exactly(wanted.exactly, uses)))
    if wanted.only is not None:
        others = [use for use in uses if use.name not in wanted.only]
        problem = f"{_seen(others[:1])} came" if others else ""
        judged.append(("only", f"no tools but {', '.join(wanted.only)}", problem))
    for key, expected, problem in judged:
        wrong = problem or ("" if evidence.answered else _NO_ANSWER)
        message = f"expected {expected}, but {wrong}"
        yield Found(
            not wrong, expected, seen, message if wrong == _NO_ANSWER else f"{message}; all calls: {seen}", index=key
        )


def _fits(wanted: str | ToolCall, use: ToolUse) -> bool:
    if isinstance(wanted, str):
        return use.name == wanted
    return use.name == wanted.name and not _arguments_differ(wanted, use)


def _out_of_order(order: Sequence[str | ToolCall], uses: Sequence[ToolUse], *, adjacent: bool) -> str:
    """What is wrong with the order; '' for nothing."""
    if adjacent:
        starts = range(len(uses) - len(order) + 1)
        there = any(all(map(_fits, order, uses[start:])) for start in starts)
        return "" if there else "they do not come so"
    left = iter(uses)
    for n, wanted in enumerate(order):
        if not any(_fits(wanted, use) for use in left):
            after = f" after {_named(order[n - 1])}" if n else ""
            return f"no {_named(wanted)} comes{after}"
    return ""


def _not_exactly(wanted: Sequence[str | ToolCall], uses: Sequence[ToolUse]) -> str:
    """What is missing, or came besides; '' for nothing."""
    of_use = _matched(wanted, uses)
    missing = [_named(one) for n, one in enumerate(wanted) if n not in of_use.values()]
    extra = [use for n, use in enumerate(uses) if n not in of_use]
    parts = [f"{', '.join(missing)} did not come"] * bool(missing) + [f"{_seen(extra)} came, too"] * bool(extra)
    return " and ".join(parts)


def _matched(wanted: Sequence[str | ToolCall], uses: Sequence[ToolUse]) -> dict[int, int]:
    """Give each wanted call one that came, for as many as possible (by augmenting paths); call -> wanted."""
    of_use: dict[int, int] = {}

    def place(n: int, tried: set[int]) -> bool:
        for at, use in enumerate(uses):
            if at not in tried and _fits(wanted[n], use):
                tried.add(at)
                if at not in of_use or place(of_use[at], tried):
                    of_use[at] = n
                    return True
        return False

    for n in range(len(wanted)):
        place(n, set())
    return of_use


# --- in words ---------------------------------------------------------------------------------------------------------


def _expected(wanted: ToolCheck) -> str:
    """A call as it is wanted."""
    parts = [_named(wanted)]
    parts += [f"where {name} {_wanted(value)}" for name, value in wanted.where.items()]
    if wanted.result is not None:
        parts.append(f"whose result {_wanted(wanted.result)}")
    if wanted.status is not None:
        parts.append(f"that is {wanted.status}")
    if wanted.within is not None:
        parts.append(f"within {wanted.within}")
    if wanted.duration is not None:
        limits = (("at least", wanted.duration.min), ("at most", wanted.duration.max))
        parts.append(f"working {' and '.join(f'{word} {limit}' for word, limit in limits if limit is not None)}")
    return " ".join(parts)


def _wanted(value: ValueCheck) -> str:
    names = {"equals": "is", "contains": "contains", "lacks": "lacks", "matches": "matches"}
    names |= {"min": "is at least", "max": "is at most"}
    given = [(word, getattr(value, key)) for key, word in names.items()]
    shown = [f"{word} {_plain(one)}" for word, one in given if one is not None]
    return " and ".join(shown)


def _named(wanted: str | ToolCall) -> str:
    if isinstance(wanted, str):
        return wanted
    return wanted.name + (f"({_plain(wanted.arguments)})" if wanted.arguments else "")


def _listed(calls: Sequence[str | ToolCall]) -> str:
    return ", ".join(map(_named, calls))


def _seen(uses: Sequence[ToolUse]) -> str:
    """The calls that came, with how they ended where that is not well."""
    return ", ".join(map(_one_seen, uses)) or "no tool call"


def _one_seen(use: ToolUse) -> str:
    call = f"{use.name}({use.arguments})"
    if use.status in ("completed", ""):
        return call
    return f"{call} {_ended(use)}" + (f" ({use.error})" if use.error else "")


def _ended(use: ToolUse) -> str:
    return {"": "has not ended", "timed_out": "timed out", "invalid": "was invalid"}.get(
        use.status, use.status if use.status in ("completed", "failed") else f"was {use.status}"
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _plain(value)


def _shown(value: Any) -> str:
    return shortened(_plain(value))


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
