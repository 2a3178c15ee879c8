"""Values that must not be shown, and URLs without what must not be shown in them."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, unquote, unquote_plus, urlsplit

MASK = "***"
# Parameters of a server's URL whose values tell nothing. Any other value may be a key: servers invent their names.
_HARMLESS = frozenset(
    ("agent_id", "api-version", "api_version", "call_id", "deployment", "duplex", "intent", "language", "model")
)
_SHORTEST_KEY = 8  # a shorter value of a parameter (`?v=2`) is masked in the URL, but not looked for in other text
_URL = re.compile(r"""[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>]+""")


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
    `call_id` and the like). What holds nothing secret comes back as it is; what is no URL is masked where a password
    could stand in it. Never raises.
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
    """Return text with every URL in it as `shown_url` shows it: for messages that others have worded."""
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
            found += [word for word in (value or name, unquote_plus(value or name)) if len(word) >= _SHORTEST_KEY]
    return tuple(dict.fromkeys(word for word in found if word))


def has_secret(text: str) -> bool:
    """Return whether a URL holds anything that `shown_url` masks."""
    return shown_url(text) != text


def _split(text: str) -> SplitResult | None:
    """Take a URL apart; None when it is none, or one in which a password may stand where it is not looked for."""
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError:  # half an IPv6 address; a port that is no number, as when a password holds a slash
        return None
    return url if url.netloc and "@" not in url.path else None


def _until_query(text: str) -> str:
    for mark in "?#":
        head, found, _ = text.partition(mark)
        text = f"{head}{mark}{MASK}" if found else text
    return text


def _harmless(pair: str) -> bool:
    """Whether a parameter tells nothing: known to be so, or without a value."""
    name, equals, value = pair.partition("=")
    if unquote_plus(name).lower() in _HARMLESS:
        return ";" not in value  # some servers see two parameters there
    return not pair or (bool(equals) and not value)


def _shown_parameter(pair: str) -> str:
    if _harmless(pair):
        return pair
    name, equals, _ = pair.partition("=")
    return f"{name}={MASK}" if equals else MASK  # a word that stands alone may be the key itself
