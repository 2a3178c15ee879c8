"""Keeping what C libraries write to file descriptor 2 off the screen: PortAudio, ALSA, JACK and their threads."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

_lock = threading.Lock()


@functools.cache
def silence_alsa() -> None:
    """Silence ALSA: its threads write to file descriptor 2, across whatever a screen shows.

    The handler it is given is a function of the C library without arguments, so no thread of ALSA waits for Python.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):  # no ALSA: nothing to keep quiet
        alsa = ctypes.CDLL("libasound.so.2")
        alsa.snd_lib_error_set_handler(ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p))


@contextlib.contextmanager
def quiet_call() -> Iterator[None]:
    """Keep what C libraries write off the screen during a call; what others write there in the meantime is lost."""
    if not _lock.acquire(blocking=False):  # another thread is keeping it quiet already, or hangs while doing so
        yield
        return
    try:
        try:
            sys.stderr.flush()
            kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        except (OSError, ValueError, AttributeError):  # no stderr at all: nothing to keep quiet
            yield
            return
        try:
            os.dup2(nothing, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nothing)
    finally:
        _lock.release()


@contextlib.contextmanager
def quiet_screen() -> Iterator[None]:
    """Keep what C libraries write off a terminal for the whole block, whichever of their threads writes it.

    PortAudio cannot be told to be quiet, so file descriptor 2 leads nowhere, while `sys.stderr` of this program reaches
    the terminal through a descriptor of its own. Nothing is changed where standard error is no terminal.
    """
    before = sys.stderr
    try:
        if not os.isatty(2) or before.fileno() != 2:
            raise OSError
        before.flush()
        terminal = os.dup(2)
    except (OSError, ValueError, AttributeError):
        yield
        return
    with (
        os.fdopen(terminal, "w", encoding=before.encoding, errors=before.errors, buffering=1) as ours,
        Path(os.devnull).open("wb") as nothing,
    ):
        os.dup2(nothing.fileno(), 2)
        sys.stderr = ours
        try:
            yield
        finally:
            ours.flush()
            sys.stderr = before
            os.dup2(terminal, 2)
