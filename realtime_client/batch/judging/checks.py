"""Judging what came back: every entry of `expect` becomes one or more checks. Pure.

A check needs something to judge. Where there was no answer, no text, or no figure, it fails and says so: silence never
passes, not even with `lacks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from realtime_client.batch.faults import CheckError
from realtime_client.batch.result import CheckResult
from realtime_client.batch.scenario import ErrorRate, EventCheck, Expect, Lengths, seconds
from realtime_client.escape import shortened

from . import tool_checks, words
from .evidence import Check, Evidence, Found, Means, many, quoted
from .prices import cost_usd


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
        nothing = Found(False, "something to check", "", f"`{kind}` says nothing that could be checked")
        try:
            found = list(_CHECKS[kind](value, evidence, means)) or [nothing]
        except CheckError as error:
            turn = "" if evidence.turn is None else f"turn {evidence.turn}, "
            raise CheckError(f"{turn}{kind}: {error} ({means.place(f'{prefix}.{kind}')})") from None
        results += [_result(kind, f"{prefix}.{kind}", one, evidence, means) for one in found]
    return results


def _result(kind: str, path: str, found: Found, evidence: Evidence, means: Means) -> CheckResult:
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


def _no_text(evidence: Evidence) -> str:
    """Why there is no text to judge; '' when there is."""
    if not evidence.answered:
        return "there was no answer"
    return "" if evidence.answer.strip() else "the answer has no text"


# --- text -------------------------------------------------------------------------------------------------------------


def _texts(value: Any, evidence: Evidence, fits: Callable[[str, str], bool], what: str, wrong: str) -> Iterator[Found]:
    missing = _no_text(evidence)
    for index, text in many(value):
        expected = f"{what} {quoted(text)}"
        if missing:
            yield Found(False, expected, missing, f"expected an answer that {expected}, but {missing}", index=index)
        else:
            seen = evidence.answer
            message = f"the answer {wrong} {quoted(text)}: {quoted(seen)}"
            yield Found(fits(seen, text), expected, seen, message, index=index)


def _contains(value: Any, evidence: Evidence, _means: Means) -> Iterator[Found]:
    return _texts(value, evidence, words.holds, "contains", "does not contain")


def _lacks(value: Any, evidence: Evidence, _means: Means) -> Iterator[Found]:
    return _texts(value, evidence, lambda seen, text: not words.holds(seen, text), "lacks", "contains")


def _matches(value: Any, evidence: Evidence, means: Means) -> Iterator[Found]:
    return _texts(value, evidence, lambda seen, text: means.search(text, seen), "matches", "does not match")


def _equals(value: Any, evidence: Evidence, _means: Means) -> Iterator[Found]:
    return _texts(value, evidence, words.same, "is", "is not")


def _wer(rate: ErrorRate, evidence: Evidence, _means: Means) -> Iterator[Found]:
    of_user = rate.of == "user"
    heard = evidence.transcript if of_user else evidence.answer
    reference = rate.reference or (evidence.spoken if of_user else "")
    expected = f"word error rate at most {rate.max:g}"
    if not reference:
        yield Found(False, expected, "", "the right words are not known: give `reference`")
    elif not heard.strip():
        missing = "no transcript of the user's speech came" if of_user else _no_text(evidence)
        yield Found(False, expected, missing, f"expected a {expected}, but {missing}")
    else:
        score = round(words.word_error_rate(reference, heard), 4)
        message = f"the word error rate is {score:.2f}, above {rate.max:g}: {quoted(reference)} came as {quoted(heard)}"
        yield Found(score <= rate.max, expected, heard, message, score)


_NORWEGIAN = {"nb": "no", "nn": "no"}


def _language(code: str, evidence: Evidence, means: Means) -> Iterator[Found]:
    expected = f"language {code}"
    missing = _no_text(evidence)
    if missing:
        yield Found(False, expected, missing, f"expected an answer in {code}, but {missing}")
        return
    assert means.language is not None
    found = means.language(evidence.answer)
    if found is None:
        message = f"the answer is too short to tell its language: {quoted(evidence.answer)}"
        yield Found(False, expected, "too short to tell", message)
    else:
        wanted = code.lower().partition("-")[0]
        message = f"the answer is in {found}, not {wanted}: {quoted(evidence.answer)}"
        yield Found(_NORWEGIAN.get(found, found) == _NORWEGIAN.get(wanted, wanted), expected, found, message)


def _judge(value: Any, evidence: Evidence, means: Means) -> Iterator[Found]:
    for index, judge in many(value):
        missing = _no_text(evidence)
        if missing:
            yield Found(False, judge.criteria, missing, f"nothing to judge: {missing}", index=index)
            continue
        assert means.judge is not None
        verdict = means.judge(judge, evidence)
        message = f"the judge says no to {quoted(judge.criteria)}: {verdict.reason or 'no reason given'}"
        yield Found(verdict.ok, judge.criteria, verdict.reason, message, index=index)


# --- events and times -------------------------------------------------------------------------------------------------


def _event(value: Any, evidence: Evidence, _means: Means) -> Iterator[Found]:
    wanted: EventCheck
    for index, wanted in many(value):
        at_ms = evidence.events.get(wanted.name)
        limit = "" if wanted.within is None else f" within {wanted.within}"
        expected = wanted.name + limit
        if at_ms is None:
            yield Found(False, expected, "did not come", f"{wanted.name} did not come", index=index)
            continue
        in_time = wanted.within is None or at_ms <= seconds(wanted.within) * 1000
        message = f"{wanted.name} came after {at_ms:.0f} ms, not{limit}"
        yield Found(in_time, expected, f"after {at_ms:.0f} ms", message, round(at_ms, 1), index)


def _no_event(value: Any, evidence: Evidence, _means: Means) -> Iterator[Found]:
    unheard = evidence.waited and not evidence.answered
    for index, name in many(value):
        expected = f"no {name}"
        at_ms = evidence.events.get(name)
        if at_ms is not None:
            yield Found(False, expected, f"after {at_ms:.0f} ms", f"{name} came after {at_ms:.0f} ms", index=index)
        elif unheard:
            message = f"expected {expected}, but there was no answer"
            yield Found(False, expected, "there was no answer", message, index=index)
        else:
            yield Found(True, expected, "none", index=index)


def _latency(limits: Mapping[str, str], evidence: Evidence, _means: Means) -> Iterator[Found]:
    for name, limit in limits.items():
        expected = f"{name} at most {limit}"
        values = evidence.latencies.get(name)
        if not values:
            known = ", ".join(sorted(evidence.latencies)) or "none"
            message = f"the latency {name} was not measured (measured: {known})"
            yield Found(False, expected, "not measured", message, index=name)
            continue
        worst = max(values)
        message = f"{name} took {worst:.0f} ms, more than {limit}"
        yield Found(worst <= seconds(limit) * 1000, expected, f"{worst:.0f} ms", message, round(worst, 1), name)


def _lengths(lengths: Lengths, value_ms: int, what: str) -> Iterator[Found]:
    for bound, limit in (("min", lengths.min), ("max", lengths.max)):
        if limit is None:
            continue
        limit_ms = seconds(limit) * 1000
        ok = value_ms >= limit_ms if bound == "min" else value_ms <= limit_ms
        word = "at least" if bound == "min" else "at most"
        message = f"{what} {value_ms} ms, expected {word} {limit}"
        yield Found(ok, f"{word} {limit}", f"{value_ms} ms", message, float(value_ms), bound)


def _audio(lengths: Lengths, evidence: Evidence, _means: Means) -> Iterator[Found]:
    if not evidence.audio_ms:
        missing = "the answer has no speech" if evidence.answered else "there was no answer"
        return iter([Found(False, "speech", missing, f"expected speech, but {missing}")])
    return _lengths(lengths, evidence.audio_ms, "the answer's speech lasts")


def _heard(lengths: Lengths, evidence: Evidence, _means: Means) -> Iterator[Found]:
    if evidence.heard_ms is None:
        missing = "the answer was not interrupted" if evidence.answered else "there was no answer"
        return iter([Found(False, "an interrupted answer", missing, f"expected an interrupted answer, but {missing}")])
    return _lengths(lengths, evidence.heard_ms, "of the interrupted answer was heard:")


# --- the answer as a whole --------------------------------------------------------------------------------------------


def _cost(limit: float, evidence: Evidence, means: Means) -> Iterator[Found]:
    expected = f"at most ${limit:g}"
    if not evidence.answered:
        yield Found(False, expected, "there was no answer", "the cost is not known: there was no answer")
    elif means.prices is None:
        message = f"the prices of {means.model or 'this model'} are not known: give `prices` in the scenario"
        yield Found(False, expected, "prices not known", message)
    elif evidence.usage is None:
        yield Found(False, expected, "usage not stated", "the cost is not known: the server states no usage")
    else:
        cost = cost_usd(evidence.usage, means.prices)
        if cost is None:
            message = "the cost is not known: the server does not state tokens by kind"
            yield Found(False, expected, "usage not stated by kind", message)
        else:
            yield Found(cost <= limit, expected, f"${cost:.6f}", f"it cost ${cost:.6f}, more than ${limit:g}", cost)


def _status(wanted: str, evidence: Evidence, _means: Means) -> Iterator[Found]:
    seen = evidence.status or "no answer"
    yield Found(evidence.status == wanted, wanted, seen, f"the answer's status is {seen}, expected {wanted}")


def _interrupted(wanted: bool, evidence: Evidence, _means: Means) -> Iterator[Found]:  # noqa: FBT001 - as written
    expected = "interrupted" if wanted else "not interrupted"
    if not evidence.answered:
        yield Found(False, expected, "no answer", "there was no answer")
        return
    seen = "interrupted" if evidence.interrupted else "not interrupted"
    yield Found(evidence.interrupted == wanted, expected, seen, f"the answer was {seen}, expected {expected}")


_CHECKS: dict[str, Check] = {
    "contains": _contains,
    "lacks": _lacks,
    "matches": _matches,
    "equals": _equals,
    "wer": _wer,
    "tool": tool_checks.tool,
    "tools": tool_checks.tools,
    "no_tool": tool_checks.no_tool,
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
