"""Between threads and an event loop: waking the loop, and waiting in it for a thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Wake:
    """A bell that threads ring. Ringing costs next to nothing unless somebody waits: many rings make one wake-up."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._waiting = 0
        self._rung = False

    def ring(self) -> None:
        """Wake whoever waits; from any thread."""
        if self._waiting and not self._rung:
            self._rung = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._event.set)

    async def until(self, look: Callable[[], T | None], limit_s: float | None) -> T:
        """Return what `look` finds, looking again after each ring.

        Errors: TimeoutError after limit_s; those of `look`.
        """
        if (found := look()) is not None:
            return found
        self._waiting += 1
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    self._event.clear()
                    self._rung = False  # what happens from here on rings
                    if (found := look()) is not None:
                        return found
                    await self._event.wait()
        finally:
            self._waiting -= 1


class Aside(Generic[T]):
    """A call that may wait, in a thread of its own."""

    def __init__(self, name: str, call: Callable[[], T]) -> None:
        self.outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
        self.outcome.set_running_or_notify_cancel()  # from here on, nobody can cancel it
        self._call = call
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.outcome.set_result(self._call())
        except BaseException as error:  # noqa: BLE001 - raised in whoever waits for it
            self.outcome.set_exception(error)

    async def end(self, *, on_cancel: Callable[[], object] = bool) -> T:
        """Wait for its end and join the thread, come what may; a CancelledError is raised afterwards.

        on_cancel: called when nobody wants the call any longer, to make it end sooner; must not wait.
        """
        ended = asyncio.wrap_future(self.outcome)
        cancelled: asyncio.CancelledError | None = None
        while not ended.done():
            try:
                await asyncio.wait([ended])
            except asyncio.CancelledError as error:
                cancelled = error
                on_cancel()
        self._thread.join()
        failure = ended.exception()
        if cancelled is None:
            return ended.result()
        if failure is not None:
            cancelled.add_note(f"meanwhile: {failure}")
        raise cancelled
