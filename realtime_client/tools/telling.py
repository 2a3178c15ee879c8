"""What people and the model are told of a call: its progress, and its result."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable

import msgspec

from realtime_client import updates as up
from realtime_client.deadline import Clock
from realtime_client.errors import ClosedError, QueueFullError, RealtimeError, UsageError
from realtime_client.escape import one_line
from realtime_client.session.limits import ToolLimits
from realtime_client.session.session import Session

from .book import Work

PROGRESS_EVERY_S = 0.1


class Reporter:
    """Tells the progress of one call, at most ten times a second: what comes faster is left out."""

    def __init__(self, call: up.ToolCall, tell: Callable[[up.Update], None], clock: Clock) -> None:
        self._call = call
        self._tell = tell
        self._clock = clock
        self._lock = threading.Lock()
        self._next_s = 0.0
        self._whole = False  # all of it was told to be done

    def __call__(self, text: str, done: float | None, total: float | None) -> None:
        """Tell it, if it is time; that all is done is told in any case, once."""
        done, total = number(done), number(total)
        now = self._clock.monotonic()
        with self._lock:
            news = done is not None and done == total and not self._whole
            if now < self._next_s and not news:
                return
            self._whole |= news
            self._next_s = now + PROGRESS_EVERY_S
        call, line = self._call, one_line(text, 1_000)
        self._tell(up.ToolProgress(call_id=call.call_id, name=call.name, text=line, done=done, total=total))


def number(value: object) -> float | None:
    """A figure that a tool tells, None for what is none: the annotations of a tool's code bind nobody."""
    try:
        finite = math.isfinite(value)  # type: ignore[arg-type]  # judged here
        return (value if isinstance(value, int | float) else float(value)) if finite else None  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None


def error_result(message: str, status: str, partial: str = "") -> str:
    """The result of a call that brought none, for the model to read. partial: what had come of the output."""
    shown = {"error": message} | ({"status": status} if status != "failed" else {})
    return msgspec.json.encode(shown | ({"partial_output": partial} if partial else {})).decode()


def words(error: BaseException) -> str:
    """What an error says, even if it cannot say it: its class is the tool's."""
    try:
        return str(error)
    except Exception as another:  # noqa: BLE001 - of any kind
        return f"its words cannot be had ({type(another).__name__})"


def sayable(text: str) -> str:
    """The text without halves of surrogate pairs, which cannot be sent."""
    return text.encode("utf-8", "backslashreplace").decode()


def shortened(output: str, most: int) -> str:
    """The output, or as much of it as the model gets."""
    if len(output) <= most:
        return output
    return f"{output[:most]}\n[cut: {most:,} of {len(output):,} characters]"


class Teller:
    """Tells a session what becomes of calls, and sends their results; a session that is over takes neither."""

    def __init__(self, session: Session, limits: ToolLimits, clock: Clock) -> None:
        self._session = session
        self._limits = limits
        self._clock = clock

    def tell(self, update: up.Update) -> None:
        """Tell observers and the recording."""
        with contextlib.suppress(RealtimeError):  # the session is over
            self._session.tell(update)

    def decided(self, request_id: str, name: str, *, approved: bool, reason: str) -> None:
        """Tell that a call may run, or not."""
        self.tell(up.ApprovalDecided(request_id=request_id, name=name, approved=approved, reason=reason))

    def finished(self, work: Work, status: str, text: str) -> up.ToolFinished:
        """Return what tells how a call ended. text: why it brought no output, where it did not."""
        took = None if work.began_s is None else round((self._clock.monotonic() - work.began_s) * 1000, 3)
        error = None if status == "completed" else one_line(text, 1_000)
        return up.ToolFinished(
            call_id=work.call.call_id, name=work.call.name, status=status, duration_ms=took, error=error
        )

    def over(self, work: Work, status: str, text: str) -> str:
        """Tell how a call ended; returns its result for the model. text: the output, or why there is none."""
        fine = status == "completed"
        self.tell(self.finished(work, status, text))
        partial = work.context.output_so_far if work.context is not None and not fine else ""
        output = text if fine else error_result(sayable(text), status, sayable(partial))
        return shortened(output, self._limits.result_characters)

    def send(self, work: Work, output: str) -> bool:
        """Send a result; False when it has to be sent again, because the network stands still or is changed."""
        try:
            self._session.send_tool_result(work.call.call_id, output, respond=not work.silent)
        except (QueueFullError, ClosedError):
            return False
        except UsageError:
            if not work.silent:  # as many answers as may wait are asked for: they see the result
                work.silent = True
                return self.send(work, output)
        except RealtimeError:
            pass  # the session is over, or its server forgot the call
        return True
