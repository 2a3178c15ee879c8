"""Judging arguments in the call: that something cannot be sent must not be found out later, in another thread."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Sequence
from types import UnionType

import msgspec

from realtime_client.errors import UsageError
from realtime_client.updates import Facts

_IMAGES = ("data:image/", "https://", "http://")


def check_text(text: object, what: str) -> None:
    """Refuse what is not text, or cannot be encoded in UTF-8. Errors: UsageError."""
    if not isinstance(text, str):
        raise UsageError(f"{what} must be text (str), not {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{what} cannot be sent: at character {error.start + 1} it holds half of a surrogate pair, or a byte that"
            " was not UTF-8"
        ) from error


def check_said(text: str, images: Sequence[str], facts: Facts) -> None:
    """Refuse what cannot be said in writing. images: data URIs or addresses. Errors: UsageError."""
    check_text(text, "the text")
    if isinstance(images, str) or not isinstance(images, Iterable):
        raise UsageError(f"images must be a list of data URIs or addresses, not {type(images).__name__}")
    for image in images:
        check_text(image, "an image (a data URI or an address)")
        if not image.lower().startswith(_IMAGES):
            raise UsageError("an image is a data URI (data:image/png;base64,...) or an http(s) address")
    if not text.strip() and not images:
        raise UsageError("there is nothing to send: the text is empty")
    if images and not facts.abilities.images_in:
        raise UsageError(f"{facts.model or 'the model'} takes no images")


def check_kind(value: object, kind: type | UnionType, what: str) -> None:
    """Refuse an argument of another kind. Errors: UsageError."""
    if not isinstance(value, kind):
        raise UsageError(f"this must be {what}, not {type(value).__name__}")


def check_fields(value: object, kind: type[msgspec.Struct], what: str) -> None:
    """Refuse an argument of another kind, or one with something in it that does not fit. Errors: UsageError."""
    check_kind(value, kind, what)
    try:
        msgspec.convert(msgspec.to_builtins(value), kind)
    except (msgspec.ValidationError, TypeError) as error:
        raise UsageError(f"this is not {what}: {error}") from error


def check_call(value: object, what: str) -> None:
    """Refuse what cannot be called. Errors: UsageError."""
    if not callable(value):
        raise UsageError(f"{what} must be callable, not {type(value).__name__}")


def seconds(value: object, what: str) -> float | None:
    """A time limit; None, or more than a lock can wait, means no limit. Errors: UsageError for anything else."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise UsageError(f"{what} must be a number of seconds, not {value!r:.40}")
    if value < 0:
        raise UsageError(f"{what} must not be negative: {value:g}")
    return None if value >= threading.TIMEOUT_MAX else float(value)


def check_json(value: object, what: str) -> None:
    """Refuse what JSON cannot express. Errors: UsageError."""
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError as error:
        raise UsageError(f"{what} cannot be sent: some text in it holds half of a surrogate pair") from error
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise UsageError(f"{what} cannot be sent as JSON: {error}") from error
