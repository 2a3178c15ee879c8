"""Secrets taken out of text. Pure.

A value of eight characters or more is masked wherever it stands. A shorter one could be any word (`x`, `text`, `user`),
so it is masked only where a secret can stand: in the user part or the query of a URL, behind words like `Bearer`,
`api key` or `password`, and under names like those.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import quote

MASK = "***"
LONG = 8
_LONGEST = 4_096  # nothing longer is a key, and what a peer names a secret must not fill the memory
_MOST = 256
_NAME = re.compile(r"(?i)api.?key|(?:^|[-_.])key$|token$|secret|passw(?:or)?d|authorization|credential|cookie")
# Every name and every enumeration of ours and of the wire is made of such words.
_WORDS = re.compile(r"[a-z]+(?:[-_. /][a-z]+)*")
_BEFORE = (
    r"(?i:(?:bearer|basic|api.?key|token|secret|passw(?:or)?d|authorization|credential)s?"
    r"(?: provided)?\b[\"']?[\s:=]+[\"']?)"
)


def names_secret(name: str) -> bool:
    """Tell whether what has this name is a secret: `api_key`, `token`, `Authorization`, ..."""
    return _NAME.search(name) is not None


class Secrets:
    """Values that are known to be secret. Nothing of them is in what `text` returns, but for short ones; see above."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self.long: list[str] = []
        self.short: list[str] = []
        self._forms: list[str] = []
        self._unlike_names: list[str] = []
        self._short_places: re.Pattern[str] | None = None
        self._short_words: re.Pattern[str] | None = None
        for value in values:
            self.learn(value)

    def learn(self, value: str) -> bool:
        """Know one more; returns whether it is new. Of very many, and very long ones, some are not taken."""
        kept = self.long if len(value) >= LONG else self.short
        if not value or value == MASK or value in kept or len(value) > _LONGEST or len(kept) >= _MOST:
            return False
        kept.append(value)
        if len(value) >= LONG:
            self._forms = _longest_first(form for secret in self.long for form in _forms(secret))
            self._unlike_names = [form for form in self._forms if not _WORDS.fullmatch(form)]
        else:
            forms = _longest_first(form for secret in self.short for form in _forms(secret))
            self._short_places = _places(forms)
            self._short_words = re.compile(rf"(?<![\w-]){_any(forms)}(?![\w-])")
        return True

    def text(self, text: str) -> str:
        """Return the text with every secret replaced."""
        for secret in self._forms:
            if secret in text:
                text = text.replace(secret, MASK)
        return text if self._short_places is None else self._short_places.sub(rf"\1{MASK}", text)

    def under(self, name: str, text: str) -> str:
        """Return the text that stands under a name; under the name of a secret, short ones count, too."""
        masked = self.text(text)
        if self._short_words is None or not names_secret(name):
            return masked
        return self._short_words.sub(MASK, masked)

    def structure(self, text: str) -> str:
        """Return a name, an enumeration or an id: only what no such thing can be is masked in it."""
        for secret in self._unlike_names:
            if secret in text:
                text = text.replace(secret, MASK)
        return text

    def needles(self) -> list[bytes]:
        """Return how the long ones stand in JSON that is written plainly."""
        written = (form for secret in self._forms for form in (secret, json.dumps(secret, ensure_ascii=False)[1:-1]))
        return [form.encode("utf-8", "surrogatepass") for form in dict.fromkeys(written)]


def _forms(secret: str) -> tuple[str, str]:
    """As it is, and as it stands in a URL."""
    return secret, quote(secret.encode("utf-8", "surrogatepass"), safe="")


def _longest_first(forms: Iterable[str]) -> list[str]:
    """A secret inside of a longer one must not spoil it."""
    return sorted(dict.fromkeys(forms), key=len, reverse=True)


def _places(forms: list[str]) -> re.Pattern[str]:
    """A pattern of short secrets in the places of secrets; group 1 is what stands before."""
    values = _any(forms)
    user = rf"://(?:[^/\s@:]*:)?(?={values}(?:@|:[^/\s@]*@))"
    query = rf"[?&;#][^=&#\s]*=(?={values}(?:[&;#\s\"'<>)\]}},]|$))"
    behind = rf"\b{_BEFORE}(?={values}(?![\w-]))"
    return re.compile(f"({user}|{query}|{behind}){values}")


def _any(forms: list[str]) -> str:
    return "(?:" + "|".join(map(re.escape, forms)) + ")"
