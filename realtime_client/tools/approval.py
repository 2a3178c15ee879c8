"""Which calls may run: allowed, refused, or asked about. Pure; what is remembered is kept by `Remembered`."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Iterable
from typing import Literal, NamedTuple, Protocol

import msgspec

from realtime_client.errors import UsageError

from .tool import Tool

Verdict = Literal["ask", "always", "never"]
VERDICTS = ("ask", "always", "never")


class Rule(NamedTuple):
    """A verdict on the tools whose name, or origin and name (`time/get_current_time`), a pattern fits.

    The first slash of a pattern stands between origin and name: names are strangers', and may have slashes in them.
    """

    pattern: str
    verdict: Verdict


def rule(text: str) -> Rule:
    """Read `PATTERN=VERDICT`; a verdict alone is for all tools. Errors: UsageError."""
    pattern, equals, verdict = text.strip().rpartition("=")
    if verdict not in VERDICTS or (equals and not pattern):
        raise UsageError(f"{text[:80]!r} is no rule: PATTERN=VERDICT, the verdict one of {', '.join(VERDICTS)}")
    return Rule(pattern or "*", verdict)  # type: ignore[arg-type]  # one of VERDICTS


def fits(pattern: str, name: str, origin: str) -> bool:
    """Whether a rule's pattern is about a tool."""
    where, slash, what = pattern.partition("/")
    if not slash:
        return fnmatch.fnmatchcase(name, pattern)
    return fnmatch.fnmatchcase(origin.removeprefix("mcp "), where) and fnmatch.fnmatchcase(name, what)


class Memory(Protocol):
    """Keeps what was remembered on request."""

    def get(self, key: str) -> bool | None:
        """What was decided about a tool; None for nothing."""
        ...

    def put(self, key: str, *, approve: bool) -> None:
        """Remember a decision."""
        ...


class InMemory:
    """Remembers for as long as the program runs."""

    def __init__(self) -> None:
        self._kept: dict[str, bool] = {}

    def get(self, key: str) -> bool | None:
        """See `Memory`."""
        return self._kept.get(key)

    def put(self, key: str, *, approve: bool) -> None:
        """See `Memory`."""
        self._kept[key] = approve


class Policy:
    """Decides about calls.

    The first rule that fits decides; then what was remembered; then: what the program itself offers, and what only
    reads, may run; everything else is asked about.
    """

    def __init__(self, rules: Iterable[Rule] = (), memory: Memory | None = None) -> None:
        self._rules = tuple(rules)
        self._memory = memory or InMemory()

    def verdict(self, name: str, tool: Tool | None = None, *, origin: str = "") -> Verdict:
        """What becomes of a call. tool: None for one that the model's server runs, of `origin`."""
        origin = tool.origin if tool is not None else origin
        own = name if tool is None else tool.name  # the model calls it otherwise where another one has its name
        for each in self._rules:
            if fits(each.pattern, name, origin):
                return each.verdict
            if ("/" in each.pattern or each.verdict != "always") and fits(each.pattern, own, origin):
                return each.verdict
        if self._memory.get(key_of(name, tool, origin=origin, approve=False)) is False:
            return "never"
        kept = self._memory.get(key_of(name, tool, origin=origin))
        if kept is not None:
            return "always" if kept else "never"
        return "always" if tool is not None and (tool.allowed or tool.reads) else "ask"

    def remember(self, name: str, tool: Tool | None, *, origin: str, approve: bool) -> None:
        """Decide so about this tool from now on."""
        self._memory.put(key_of(name, tool, origin=origin, approve=approve), approve=approve)


def key_of(name: str, tool: Tool | None, *, origin: str, approve: bool = True) -> str:
    """Under what a decision is remembered: where the tool is from, its name, and what the model is told of it.

    A tool that says something else of itself later is another tool, and is asked about anew. What was refused stays so,
    whatever it says of itself.
    """
    about = [] if tool is None else [tool.home, *([msgspec.to_builtins(tool.spec)] if approve else [])]
    told = json.dumps(about or None, sort_keys=True)
    return f"{origin} {name} {hashlib.sha256(told.encode()).hexdigest()[:16]}"
