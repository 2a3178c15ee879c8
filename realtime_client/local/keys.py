"""Ephemeral keys: short-lived secrets with which a page may open sessions, so that it never sees the server's token."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from realtime_client.deadline import Clock
from realtime_client.protocol.server.checks import (
    Json,
    Refusal,
    an_object,
    fields,
    integer,
    one_of,
    unknown,
    wrong_type,
)
from realtime_client.protocol.server.settings import default_session, merge_session, session_kind
from realtime_client.protocol.server.state import random_id
from realtime_client.updates import OWN_SESSION

from .http import Answer, Refused

PREFIX = "ek_"
_USUAL_S = 600
_MOST_BYTES = 32 * 2**20
_EACH_BYTES = 1_024  # beside the settings
_LIFE = {"anchor": one_of("created_at"), "seconds": integer(10, 7_200)}


class _Key(msgspec.Struct, frozen=True):
    """expires_at: epoch seconds. session: the update with which each of its sessions begins.

    It is kept as JSON, whose size is known: the objects made of it may take 20 times as much.
    """

    expires_at: float
    session: bytes

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        return _EACH_BYTES + len(self.session)


class Keys:
    """The keys of one server. Any thread may call; at most 32 MiB of keys and their settings live at a time.

    folder: where servers that share a port leave their keys for each other; private, and removed by whoever made it.
    """

    def __init__(self, clock: Clock, folder: Path | None = None) -> None:
        self._clock = clock
        self._folder = folder
        self._lock = threading.Lock()
        self._keys: dict[str, _Key] = {}
        self._size = 0

    def session(self, key: str) -> Json | None:
        """Return the settings that come with a key; None for one that is unknown or has expired."""
        with self._lock:
            found = self._keys.get(key)
        found = found or self._of_others(key)
        if found is None or found.expires_at <= self._clock.wall():
            return None
        session: Json = msgspec.json.decode(found.session)
        return session

    def _of_others(self, key: str) -> _Key | None:
        """The key, if another server has made it."""
        place = self._place(key)
        if place is None:
            return None
        try:
            return msgspec.json.decode(place.read_bytes(), type=_Key)
        except (OSError, msgspec.DecodeError):
            return None

    def _place(self, key: str) -> Path | None:
        """Where a key is left for others: under a name that does not tell it, and that nobody can choose."""
        if self._folder is None:
            return None
        return self._folder / hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()  # headers hold any byte

    def mint(self, body: bytes) -> Answer | Refused:
        """Carry out `POST client_secrets`: {"session", "expires_after"} -> {"value", "expires_at", "session"}."""
        try:
            asked = msgspec.json.decode(body) if body.strip() else {}
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return Refused(status=400, code="invalid_json", message="The request's body is no JSON.")
        try:
            session, effective, seconds = _read(asked)
        except Refusal as refusal:
            return Refused(status=400, code=refusal.code, message=str(refusal), param=refusal.param)
        expires_at = int(self._clock.wall()) + seconds
        value = PREFIX + secrets.token_hex(16)
        if not self._keep(value, _Key(expires_at, msgspec.json.encode(session))):
            return Refused(status=429, code="rate_limit_exceeded", message="Too many keys are valid; try again later.")
        made = {"value": value, "expires_at": expires_at, "session": effective}
        return Answer(status=200, body=msgspec.json.encode(made))

    def _keep(self, value: str, key: _Key) -> bool:
        """Keep a key, instead of those that have expired; False when there is no room."""
        now = self._clock.wall()
        with self._lock:
            gone: list[str] = []
            if self._size + key.size > _MOST_BYTES:
                gone = [name for name, kept in self._keys.items() if kept.expires_at <= now]
                self._size -= sum(self._keys.pop(name).size for name in gone)
            room = self._size + key.size <= _MOST_BYTES
            if room:
                self._keys[value] = key
                self._size += key.size
        self._share(value, key if room else None, gone)
        return room

    def _share(self, value: str, key: _Key | None, gone: Sequence[str]) -> None:
        """Leave a new key for the other servers, and take back those that have expired. Best effort: disks are full."""
        for name in gone:
            if (place := self._place(name)) is not None:
                with contextlib.suppress(OSError):
                    place.unlink()
        if key is not None and (place := self._place(value)) is not None:
            with contextlib.suppress(OSError):
                place.write_bytes(msgspec.json.encode(key))


def _read(asked: Any) -> tuple[Json, Json, int]:
    """(settings that are asked for, all settings, lifetime in seconds). Errors: Refusal."""
    if not isinstance(asked, dict):
        raise wrong_type(asked, "body", "an object")
    for name in asked.keys() - {"session", "expires_after"}:
        raise unknown(name)
    life, session = asked.get("expires_after"), asked.get("session")
    life = {} if life is None else life
    fields(life, "expires_after", _LIFE)
    session = {"type": "realtime"} if session is None else session
    an_object(session, "session")
    model = str(session.get("model") or "")
    start = default_session(session_kind(session), session_id=random_id(OWN_SESSION), model=model, expires_at=0)
    return session, merge_session(start, session), life.get("seconds") or _USUAL_S
