"""Which language a text is in: py3langid (BSD), a small naive Bayes model over byte sequences, offline.

Lui and Baldwin, "langid.py: An Off-the-shelf Language Identification Tool" (2012). It is right for nearly every
sentence and guesses at single words, so less than two words and eight letters (or six characters of a script without
spaces) is too short to tell.
"""

from __future__ import annotations

import importlib.util

from realtime_client.errors import MissingExtraError

from .words import plain_words

_LEAST_LETTERS = 8
_LEAST_CHARACTERS = 6


def check_installed() -> None:
    """Errors: MissingExtraError."""
    if importlib.util.find_spec("py3langid") is None:
        raise MissingExtraError("py3langid", "language")


def detect(text: str) -> str | None:
    """Return the ISO 639-1 code of a text's language; None when it is too short to tell. Errors: MissingExtraError."""
    words = [word for word in plain_words(text) if word.isalpha()]
    wordless = all(len(word) == 1 and ord(word) > 0x3000 for word in words)
    letters = sum(map(len, words))
    if letters < _LEAST_CHARACTERS if wordless else letters < _LEAST_LETTERS or len(words) < 2:
        return None
    check_installed()
    import py3langid

    return str(py3langid.classify(text)[0])
