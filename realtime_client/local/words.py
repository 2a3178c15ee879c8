"""What a brain that waits has to say: made in a thread of its own, and taken by the session piece by piece."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import msgspec

from .brain import Said
from .channel import Channel
from .helpers import Helpers

_MOST_AHEAD = 2**16  # pieces; whoever sends them must not wait for the voice, which is slower


class Nothing(msgspec.Struct, frozen=True):
    """The brain has not said more yet."""


NOTHING = Nothing()


class Words:
    """An iterator that never waits: where the brain has not said more, it gives NOTHING, and `wake` is called later.

    begin: asks the brain; called in the thread, as what it returns is. close() ends both.
    """

    def __init__(self, begin: Callable[[], Iterator[Said]], wake: Callable[[], object]) -> None:
        self._begin = begin
        self._wake = wake
        self._channel: Channel[Said] = Channel(_MOST_AHEAD)
        self._lock = threading.Lock()
        self._said: Iterator[Said] | None = None
        self._closed = False
        self._awaited = True  # nobody is woken who has not found nothing since
        self._error: BaseException | None = None

    def __iter__(self) -> Words:
        return self

    def __next__(self) -> Said | Nothing:
        with self._lock:
            self._awaited = True
        piece = self._channel.get(0)
        if piece is not None:
            return piece
        if not self._channel.over:
            return NOTHING
        if self._error is not None:
            raise self._error
        raise StopIteration

    def close(self) -> None:
        """Nothing more is wanted."""
        with self._lock:
            self._closed = True
            said = self._said
        self._channel.close(drop=True)
        _close(said)

    def make(self) -> None:
        """Ask the brain, and hand over what it says: the thread's whole life."""
        try:
            said = self._begin()
            with self._lock:
                self._said, closed = said, self._closed
            if closed:
                _close(said)
                return
            self._hand_over(said)
        except Exception as error:  # noqa: BLE001 - raised where the pieces are taken
            self._error = error
        finally:
            self._channel.close()
            self._tell()

    def _hand_over(self, said: Iterator[Said]) -> None:
        try:
            for piece in said:
                if not self._channel.put(piece):
                    return
                self._tell()
        finally:
            if isinstance(said, Generator):
                said.close()

    def _tell(self) -> None:
        with self._lock:
            awaited, self._awaited = self._awaited, False
        if awaited:
            self._wake()


def _close(said: Any) -> None:
    """Close what can be closed while another thread is in it."""
    if said is not None and not isinstance(said, Generator) and hasattr(said, "close"):
        said.close()


def think(helpers: Helpers, begin: Callable[[], Iterator[Said]], wake: Callable[[], object]) -> Words:
    """Ask a brain in a thread of its own."""
    words = Words(begin, wake)
    helpers.begin("realtime-serve-brain", words.make)
    return words
