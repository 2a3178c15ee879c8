"""Values that must not be shown; URLs, and any text, without what must not be shown in them. Pure."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from urllib.parse import SplitResult, quote, unquote, unquote_plus, urlsplit

MASK = "***"
LONG = 8  # characters; a shorter value could be any word, and is not looked for wherever it may stand
# Parameters of a server's URL whose values give nothing away. Any other may be a key: servers invent their names.
_HARMLESS = frozenset(
    ("agent_id", "api-version", "api_version", "call_id", "deployment", "duplex", "intent", "language", "model")
)
_URL = re.compile(r"""[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>]+""")
_LONGEST = 4_096  # nothing longer is a key, and what a peer names a secret must not fill the memory
_MOST = 256
_NAME = re.compile(r"(?i)api.?key|(?:^|[-_.])key$|token$|secret|passw(?:or)?d|authorization|credential|cookie")
# Every name and every enumeration of ours and of the wire is made of such words.
_WORDS = re.compile(r"[a-z]+(?:[-_. /][a-z]+)*")
_BEFORE = (
    r"(?i:(?:bearer|basic|api.?key|token|secret|passw(?:or)?d|authorization|credential)s?"
    r"(?: provided)?\b[\"']?[\s:=]+[\"']?)"
)


class Secret:
    """A key or token. Printing it in any way shows at most its last four characters.

    reveal() is the one way to the value; only the code that builds request headers calls it.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself."""
        return self._value

    def __str__(self) -> str:
        return f"set (...{self._value[-4:]})" if len(self._value) >= 16 else "set"

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(("Secret", self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a secret is not written anywhere")


def shown_url(text: str) -> str:
    """Return a URL as people and files may see it: user name, password, fragment and values of parameters masked.

    Only values of parameters that are known to be harmless stay (`model`, `api-version`, `deployment`, `intent`,
    `call_id` and the like). What holds nothing secret comes back as it is; an invalid URL is masked where it could
    contain a password. Never raises.
    """
    url = _split(text)
    if url is None:
        _, mark, rest = text.rpartition("@")
        return f"{MASK}@{_until_query(rest)}" if mark else _until_query(text)
    _, at, place = url.netloc.rpartition("@")
    shown = text.partition("//")[0] + "//" + (f"{MASK}@" if at else "") + place + url.path
    if url.query:
        shown += "?" + "&".join(map(_shown_parameter, url.query.split("&")))
    return shown + (f"#{MASK}" if url.fragment else "#" if text.endswith("#") else "")


def shown_text(text: str) -> str:
    """Return text with every URL in it as `shown_url` shows it: for messages worded by others."""
    return _URL.sub(lambda found: shown_url(found[0]), text)


def url_secrets(text: str) -> tuple[str, ...]:
    """Return what `shown_url` masks in a URL: the password (or the user name that stands alone), keys among parameters.

    As they stand in the URL and as they are meant, where these differ. Values of parameters that are shorter than eight
    characters are left out.
    """
    url = _split(text)
    if url is None:
        return ()
    found: list[str] = []
    user, at, _ = url.netloc.rpartition("@")
    if at:
        name, _, password = user.partition(":")
        found += (password or name, unquote(password or name))
    for pair in url.query.split("&"):
        name, _, value = pair.partition("=")
        if not _harmless(pair):
            found += [word for word in (value or name, unquote_plus(value or name)) if len(word) >= LONG]
    return tuple(dict.fromkeys(word for word in found if word))


def basic_credentials(text: str) -> str:
    """Return what HTTP's basic authentication makes of the user name and password in a URL; '' without them."""
    url = _split(text)
    who, at, _ = ("", "", "") if url is None else url.netloc.rpartition("@")
    user, _, password = who.partition(":")
    return base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode() if at else ""


def has_secret(text: str) -> bool:
    """Return whether a URL holds anything that `shown_url` masks."""
    return shown_url(text) != text


def _split(text: str) -> SplitResult | None:
    """Take a URL apart; None when it is invalid, or may contain a password where nobody looks for one."""
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError:  # half an IPv6 address; a port that is not a number, as when a password contains a slash
        return None
    return url if url.netloc and "@" not in url.path else None


def _until_query(text: str) -> str:
    for mark in "?#":
        head, found, _ = text.partition(mark)
        text = f"{head}{mark}{MASK}" if found else text
    return text


def _harmless(pair: str) -> bool:
    """Whether a parameter gives nothing away: known to be harmless, or without a value."""
    name, equals, value = pair.partition("=")
    if unquote_plus(name).lower() in _HARMLESS:
        return ";" not in value  # some servers see two parameters here
    return not pair or (bool(equals) and not value)


def _shown_parameter(pair: str) -> str:
    if _harmless(pair):
        return pair
    name, equals, _ = pair.partition("=")
    return f"{name}={MASK}" if equals else MASK  # a word by itself may be the key


def names_secret(name: str) -> bool:
    """Tell whether what has this name is a secret: `api_key`, `token`, `Authorization`, ..."""
    return _NAME.search(name) is not None


class Secrets:
    """Values that are known to be secret, and text without them.

    A value of eight characters or more is masked wherever it stands. A shorter one could be any word (`x`, `text`,
    `user`), so it is masked only where a secret can stand: in the user part or the query of a URL, behind words like
    `Bearer`, `api key` or `password`, and under names like those.
    """

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
