"""How the demo brain judges an answer: a handful of criteria, understood word for word. It refuses others.

    mentions X; contains X; does not mention X; is a question; is not a question; is empty; is not empty;
    has at most N words; has at least N words

Each may begin with `it` or `the answer` and end in a full stop; X may be in quotes. The answer is only examined: words
in it that ask for a verdict are words like any others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

JUDGE_MARK = "You judge one answer of a voice assistant."
"""How the instructions of a judge's session begin."""

_MOST_CHARS = 1_000_000
_Rule = tuple[re.Pattern[str], Callable[[str, str], bool]]


def _mentions(answer: str, words: str) -> bool:
    wanted = " ".join(words.strip(" \"'“”").split()).casefold()
    return re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", " ".join(answer.split()).casefold()) is not None


def _rule(text: str, judge: Callable[[str, str], bool]) -> _Rule:
    return re.compile(rf"(?:(?:it|the answer)\s+)?{text}\s*\.?", re.IGNORECASE), judge


_RULES: tuple[_Rule, ...] = (
    _rule(
        r"(?:does not|doesn't|must not|never) (?:mentions?|contains?|says?)\s+(.+?)", lambda a, x: not _mentions(a, x)
    ),
    _rule(r"(?:mentions?|contains?|says)\s+(.+?)", _mentions),
    _rule(r"is not a question()", lambda a, _x: not a.rstrip().endswith("?")),
    _rule(r"is a question()", lambda a, _x: a.rstrip().endswith("?")),
    _rule(r"is not empty()", lambda a, _x: bool(a.strip())),
    _rule(r"is empty()", lambda a, _x: not a.strip()),
    _rule(r"has at most (\d{1,6}) words?", lambda a, x: len(a.split()) <= int(x)),
    _rule(r"has at least (\d{1,6}) words?", lambda a, x: len(a.split()) >= int(x)),
)


def verdict(message: str) -> str:
    """Return the verdict on a question, both JSON: {"criteria", "answer"} and {"pass", "reason"}."""
    passed, reason = _decide(message)
    return json.dumps({"pass": passed, "reason": reason}, ensure_ascii=False)


def _decide(message: str) -> tuple[bool, str]:
    if len(message) > _MOST_CHARS:
        return False, "the question is too long"
    try:
        question = json.loads(message)
        criteria, answer = question["criteria"], question["answer"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False, "the question is not the JSON object that a judge gets"
    if not isinstance(criteria, str) or not isinstance(answer, str):
        return False, "criteria and answer must be texts"
    for pattern, judge in _RULES:
        found = pattern.fullmatch(" ".join(criteria.split()))
        if found is not None:
            holds = judge(answer, found[1])
            return holds, f"{'true' if holds else 'not true'}: {criteria[:100]}"
    return False, "the built-in brain cannot judge this"
