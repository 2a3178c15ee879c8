"""Judging what came back: every entry of `expect` becomes one or more checks. Pure.

A check needs something to judge. Where there was no answer, no text, or no figure, it fails and says so: silence never
passes, not even with `lacks`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from realtime_client.batch.faults import CheckError
from realtime_client.batch.result import CheckResult, ToolUse
from realtime_client.batch.scenario import ErrorRate, EventCheck, Expect, Judge, Lengths, Prices, ToolCheck, seconds
from realtime_client.errors import UsageError
from realtime_client.escape import shortened
from realtime_client.updates import Usage

from . import words
from .prices import cost_usd


class Verdict(msgspec.Struct, frozen=True):
    """What a judge decided, and why in a few words."""

    ok: bool
    reason: str = ""


class Evidence(msgspec.Struct, kw_only=True):
    """What is judged: one turn's answer, or all of a conversation (turn None).

    said: the user's words, to which `answer` is the reply. spoken: the words that were spoken, '' where they are not
    known. answered: some answer came to an end, however. waited: the turn waited for one. tools: calls in order.
    events: name of an event or update -> ms after the turn had sent everything (below 0: before that), the first of
    each. latencies: in ms, by name. audio_ms: length of the answer's speech. heard_ms: where it was cut, None where it
    was not. status: of the last answer. usage: None where the server states none.
    """

    turn: int | None = None
    said: str = ""
    spoken: str = ""
    transcript: str = ""
    answer: str = ""
    answered: bool = False
    waited: bool = True
    tools: list[ToolUse] = []
    events: dict[str, float] = {}
    latencies: dict[str, list[float]] = {}
    audio_ms: int = 0
    heard_ms: int | None = None
    interrupted: bool = False
    status: str = ""
    usage: Usage | None = None


class Means(msgspec.Struct, kw_only=True):
    """What checks need: prices (None: not known), the model's name, a judge and an ear for languages.

    search: whether a regular expression is found in a text, within a time limit.
    place: path of an expectation (`turns.2.expect.cost`) -> FILE:LINE:COLUMN.
    """

    prices: Prices | None = None
    model: str = ""
    judge: Callable[[Judge, Evidence], Verdict] | None = None
    language: Callable[[str], str | None] | None = None
    search: Callable[[str, str], bool] = lambda regex, text: pattern(regex).search(text) is not None
    place: Callable[[str], str] = lambda _path: ""


class _Found(msgspec.Struct):
    """One check before its place is known. index: which entry of a list it is about."""

    ok: bool
    expected: str
    seen: str = ""
    message: str = ""
    score: float | None = None
    index: int | str | None = None


_Check = Callable[[Any, Evidence, Means], Iterator[_Found]]


def check(expect: Expect, evidence: Evidence, means: Means) -> list[CheckResult]:
    """Judge one `expect`; every entry gives its checks, in the order of the fields of `Expect`.

    Errors: MissingExtraError where a check needs an extra; CheckError for one that takes too long; what a judge raises.
    """
    prefix = "expect" if evidence.turn is None else f"turns.{evidence.turn - 1}.expect"
    results: list[CheckResult] = []
    for kind in expect.__struct_fields__:
        value = getattr(expect, kind)
        if value is None:
            continue
        nothing = _Found(False, "something to check", "", f"`{kind}` says nothing that could be checked")
        try:
            found = list(_CHECKS[kind](value, evidence, means)) or [nothing]
        except CheckError as error:
            turn = "" if evidence.turn is None else f"turn {evidence.turn}, "
            raise CheckError(f"{turn}{kind}: {error} ({means.place(f'{prefix}.{kind}')})") from None
        results += [_result(kind, f"{prefix}.{kind}", one, evidence, means) for one in found]
    return results


def _result(kind: str, path: str, found: _Found, evidence: Evidence, means: Means) -> CheckResult:
    return CheckResult(
        kind=kind,
        ok=found.ok,
        expected=shortened(found.expected),
        seen=shortened(found.seen),
        message="" if found.ok else shortened(found.message, 300),
        turn=evidence.turn,
        score=found.score,
        place=means.place(path if found.index is None else f"{path}.{found.index}"),
    )


def _many(value: Any) -> Iterator[tuple[int | None, Any]]:
    """Each entry of a list with its number, or the one value."""
    if isinstance(value, list):
        yield from enumerate(value)
    else:
        yield None, value


def _quoted(text: str) -> str:
    return f'"{shortened(text)}"'


def _no_text(evidence: Evidence) -> str:
    """Why there is no text to judge; '' when there is."""
    if not evidence.answered:
        return "there was no answer"
    return "" if evidence.answer.strip() else "the answer has no text"


# --- text -------------------------------------------------------------------------------------------------------------


def _texts(value: Any, evidence: Evidence, fits: Callable[[str, str], bool], what: str, wrong: str) -> Iterator[_Found]:
    missing = _no_text(evidence)
    for index, text in _many(value):
        expected = f"{what} {_quoted(text)}"
        if missing:
            yield _Found(False, expected, missing, f"expected an answer that {expected}, but {missing}", index=index)
        else:
            seen = evidence.answer
            message = f"the answer {wrong} {_quoted(text)}: {_quoted(seen)}"
            yield _Found(fits(seen, text), expected, seen, message, index=index)


def _contains(value: Any, evidence: Evidence, _means: Means) -> Iterator[_Found]:
    return _texts(value, evidence, words.holds, "contains", "does not contain")


def _lacks(value: Any, evidence: Evidence, _means: Means) -> Iterator[_Found]:
    return _texts(value, evidence, lambda seen, text: not words.holds(seen, text), "lacks", "contains")


def _matches(value: Any, evidence: Evidence, means: Means) -> Iterator[_Found]:
    return _texts(value, evidence, lambda seen, text: means.search(text, seen), "matches", "does not match")


def _equals(value: Any, evidence: Evidence, _means: Means) -> Iterator[_Found]:
    def same(seen: str, text: str) -> bool:
        wanted = words.plain_words(text)
        return words.plain_words(seen) == wanted if wanted else words.normal(seen) == words.normal(text)

    return _texts(value, evidence, same, "is", "is not")


def pattern(text: str) -> re.Pattern[str]:
    """Compile a regular expression. Errors: UsageError when it is invalid."""
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(f"{text!r} is not a regular expression: {error}") from None


def _wer(rate: ErrorRate, evidence: Evidence, _means: Means) -> Iterator[_Found]:
    of_user = rate.of == "user"
    heard = evidence.transcript if of_user else evidence.answer
    reference = rate.reference or (evidence.spoken if of_user else "")
    expected = f"word error rate at most {rate.max:g}"
    if not reference:
        yield _Found(False, expected, "", "the right words are not known: give `reference`")
    elif not heard.strip():
        missing = "no transcript of the user's speech came" if of_user else _no_text(evidence)
        yield _Found(False, expected, missing, f"expected a {expected}, but {missing}")
    else:
        score = round(words.word_error_rate(reference, heard), 4)
        message = (
            f"the word error rate is {score:.2f}, above {rate.max:g}: {_quoted(reference)} came as {_quoted(heard)}"
        )
        yield _Found(score <= rate.max, expected, heard, message, score)


_NORWEGIAN = {"nb": "no", "nn": "no"}


def _language(code: str, evidence: Evidence, means: Means) -> Iterator[_Found]:
    expected = f"language {code}"
    missing = _no_text(evidence)
    if missing:
        yield _Found(False, expected, missing, f"expected an answer in {code}, but {missing}")
        return
    assert means.language is not None
    found = means.language(evidence.answer)
    if found is None:
        message = f"the answer is too short to tell its language: {_quoted(evidence.answer)}"
        yield _Found(False, expected, "too short to tell", message)
    else:
        wanted = code.lower().partition("-")[0]
        message = f"the answer is in {found}, not {wanted}: {_quoted(evidence.answer)}"
        yield _Found(_NORWEGIAN.get(found, found) == _NORWEGIAN.get(wanted, wanted), expected, found, message)


def _judge(value: Any, evidence: Evidence, means: Means) -> Iterator[_Found]:
    for index, judge in _many(value):
        missing = _no_text(evidence)
        if missing:
            yield _Found(False, judge.criteria, missing, f"nothing to judge: {missing}", index=index)
            continue
        assert means.judge is not None
        verdict = means.judge(judge, evidence)
        message = f"the judge says no to {_quoted(judge.criteria)}: {verdict.reason or 'no reason given'}"
        yield _Found(verdict.ok, judge.criteria, verdict.reason, message, index=index)


# --- tools ------------------------------------------------------------------------------------------------------------


def _tool(value: Any, evidence: Evidence, _means: Means) -> Iterator[_Found]:
    for index, wanted in _many(value):
        expected = wanted.name + (f"({_plain(wanted.arguments)})" if wanted.arguments else "")
        called = [use for use in evidence.tools if use.name == wanted.name]
        problems = [_difference(wanted, use) for use in called]
        fitting = problems.count("")
        seen = ", ".join(f"{use.name}({use.arguments})" for use in evidence.tools) or "no tool call"
        if wanted.times is not None:
            ok = fitting == wanted.times
            message = f"expected {wanted.times} calls of {expected}, {fitting} came: {seen}"
        else:
            ok = fitting > 0
            why = f"{expected} was not called: {seen}" if not called else problems[-1]
            message = why
        yield _Found(ok, expected, seen, message, index=index)


def _difference(wanted: ToolCheck, use: ToolUse) -> str:
    """What is wrong with the arguments of a call; '' when they fit."""
    try:
        given = json.loads(use.arguments or "{}")
    except (ValueError, RecursionError):
        return f"the arguments of {use.name} are not valid JSON: {_quoted(use.arguments)}"
    if not isinstance(given, dict):
        return f"the arguments of {use.name} are not an object: {_quoted(use.arguments)}"
    for name, value in wanted.arguments.items():
        if name not in given:
            return f"{use.name} was called without {name!r}: {_quoted(use.arguments)}"
        if not _same(value, given[name]):
            return f"{use.name} was called with {name} = {_plain(given[name])}, expected {_plain(value)}"
    return ""


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


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _no_tool(value: bool | str, evidence: Evidence, _means: Means) -> Iterator[_Found]:  # noqa: FBT001 - as written
    if value is False:
        return
    expected = "no tool call" if value is True else f"no call of {value}"
    calls = [use for use in evidence.tools if value is True or use.name == value]
    seen = ", ".join(f"{use.name}({use.arguments})" for use in calls)
    if not evidence.answered:
        yield _Found(False, expected, "there was no answer", f"expected {expected}, but there was no answer")
    else:
        yield _Found(not calls, expected, seen or "none", f"expected {expected}: {seen}")


# --- events and times -------------------------------------------------------------------------------------------------


def _event(value: Any, evidence: Evidence, _means: Means) -> Iterator[_Found]:
    wanted: EventCheck
    for index, wanted in _many(value):
        at_ms = evidence.events.get(wanted.name)
        limit = "" if wanted.within is None else f" within {wanted.within}"
        expected = wanted.name + limit
        if at_ms is None:
            yield _Found(False, expected, "did not come", f"{wanted.name} did not come", index=index)
            continue
        in_time = wanted.within is None or at_ms <= seconds(wanted.within) * 1000
        message = f"{wanted.name} came after {at_ms:.0f} ms, not{limit}"
        yield _Found(in_time, expected, f"after {at_ms:.0f} ms", message, round(at_ms, 1), index)


def _no_event(value: Any, evidence: Evidence, _means: Means) -> Iterator[_Found]:
    unheard = evidence.waited and not evidence.answered
    for index, name in _many(value):
        expected = f"no {name}"
        at_ms = evidence.events.get(name)
        if at_ms is not None:
            yield _Found(False, expected, f"after {at_ms:.0f} ms", f"{name} came after {at_ms:.0f} ms", index=index)
        elif unheard:
            message = f"expected {expected}, but there was no answer"
            yield _Found(False, expected, "there was no answer", message, index=index)
        else:
            yield _Found(True, expected, "none", index=index)


def _latency(limits: Mapping[str, str], evidence: Evidence, _means: Means) -> Iterator[_Found]:
    for name, limit in limits.items():
        expected = f"{name} at most {limit}"
        values = evidence.latencies.get(name)
        if not values:
            known = ", ".join(sorted(evidence.latencies)) or "none"
            message = f"the latency {name} was not measured (measured: {known})"
            yield _Found(False, expected, "not measured", message, index=name)
            continue
        worst = max(values)
        message = f"{name} took {worst:.0f} ms, more than {limit}"
        yield _Found(worst <= seconds(limit) * 1000, expected, f"{worst:.0f} ms", message, round(worst, 1), name)


def _lengths(lengths: Lengths, value_ms: int, what: str) -> Iterator[_Found]:
    for bound, limit in (("min", lengths.min), ("max", lengths.max)):
        if limit is None:
            continue
        limit_ms = seconds(limit) * 1000
        ok = value_ms >= limit_ms if bound == "min" else value_ms <= limit_ms
        word = "at least" if bound == "min" else "at most"
        message = f"{what} {value_ms} ms, expected {word} {limit}"
        yield _Found(ok, f"{word} {limit}", f"{value_ms} ms", message, float(value_ms), bound)


def _audio(lengths: Lengths, evidence: Evidence, _means: Means) -> Iterator[_Found]:
    if not evidence.audio_ms:
        missing = "the answer has no speech" if evidence.answered else "there was no answer"
        return iter([_Found(False, "speech", missing, f"expected speech, but {missing}")])
    return _lengths(lengths, evidence.audio_ms, "the answer's speech lasts")


def _heard(lengths: Lengths, evidence: Evidence, _means: Means) -> Iterator[_Found]:
    if evidence.heard_ms is None:
        missing = "the answer was not interrupted" if evidence.answered else "there was no answer"
        return iter([_Found(False, "an interrupted answer", missing, f"expected an interrupted answer, but {missing}")])
    return _lengths(lengths, evidence.heard_ms, "of the interrupted answer was heard:")


# --- the answer as a whole --------------------------------------------------------------------------------------------


def _cost(limit: float, evidence: Evidence, means: Means) -> Iterator[_Found]:
    expected = f"at most ${limit:g}"
    if not evidence.answered:
        yield _Found(False, expected, "there was no answer", "the cost is not known: there was no answer")
    elif means.prices is None:
        message = f"the prices of {means.model or 'this model'} are not known: give `prices` in the scenario"
        yield _Found(False, expected, "prices not known", message)
    elif evidence.usage is None:
        yield _Found(False, expected, "usage not stated", "the cost is not known: the server states no usage")
    else:
        cost = cost_usd(evidence.usage, means.prices)
        if cost is None:
            message = "the cost is not known: the server does not state tokens by kind"
            yield _Found(False, expected, "usage not stated by kind", message)
        else:
            yield _Found(cost <= limit, expected, f"${cost:.6f}", f"it cost ${cost:.6f}, more than ${limit:g}", cost)


def _status(wanted: str, evidence: Evidence, _means: Means) -> Iterator[_Found]:
    seen = evidence.status or "no answer"
    yield _Found(evidence.status == wanted, wanted, seen, f"the answer's status is {seen}, expected {wanted}")


def _interrupted(wanted: bool, evidence: Evidence, _means: Means) -> Iterator[_Found]:  # noqa: FBT001 - as written
    expected = "interrupted" if wanted else "not interrupted"
    if not evidence.answered:
        yield _Found(False, expected, "no answer", "there was no answer")
        return
    seen = "interrupted" if evidence.interrupted else "not interrupted"
    yield _Found(evidence.interrupted == wanted, expected, seen, f"the answer was {seen}, expected {expected}")


_CHECKS: dict[str, _Check] = {
    "contains": _contains,
    "lacks": _lacks,
    "matches": _matches,
    "equals": _equals,
    "wer": _wer,
    "tool": _tool,
    "no_tool": _no_tool,
    "event": _event,
    "no_event": _no_event,
    "latency": _latency,
    "audio": _audio,
    "heard": _heard,
    "cost": _cost,
    "language": _language,
    "judge": _judge,
    "status": _status,
    "interrupted": _interrupted,
}
assert set(_CHECKS) == set(Expect.__struct_fields__)
