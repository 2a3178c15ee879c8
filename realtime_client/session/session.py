"""A session: say something, listen, learn what happens, end it. The same over every wire."""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from realtime_client import updates as up
from realtime_client.changes import Changes
from realtime_client.deadline import Clock, Deadline
from realtime_client.errors import ClosedError, RealtimeError, ShutdownError, TimeLimitError, UsageError

from .answer import Answer, TurnFollower
from .arguments import check_call, check_fields, check_kind, check_text, seconds
from .hub import Hub
from .limits import Limits
from .observers import EventObserver, Observer, RecorderProtocol
from .stats import Stats, TurnStats
from .subscription import Subscription
from .threads import stacks
from .tooling import Tooling
from .utterance import check_ask, say

if TYPE_CHECKING:
    from typing_extensions import Buffer


LOOK_S = 0.25
"""How long to wait for an update before looking whether time alone has changed something."""


class Sent(NamedTuple):
    """What became of text that was sent. request_id: the request for an answer, `ResponseStarted.request_id` of it."""

    item_id: str
    request_id: str | None


def request_of(caused: object) -> str | None:
    """Return the request for an answer that a call returned, if it was such a call."""
    if isinstance(caused, Sent):
        return caused.request_id
    return caused if isinstance(caused, str) else None


class Session(ABC):
    """One conversation with a model.

    Use it as a context manager: entering opens it, leaving closes it. Methods may be called from any thread. `stop` is
    set when the session has to end: it was lost, a thread failed, or `close` was called; wait for it instead of, or
    beside, anything else. What the other side can do is a fact (`facts.abilities`); asking for what it cannot is a
    UsageError in the call. tooling: who runs the tools that the model calls; None where this program does so itself, by
    `send_tool_result`.
    """

    def __init__(self, limits: Limits, clock: Clock, recorder: RecorderProtocol | None) -> None:
        check_fields(limits, Limits, "limits (realtime_client.Limits)")
        self.limits = limits
        self._clock = clock
        self._loop: threading.Thread | None = None
        self.tooling: Tooling | None = None
        self._tell_room: Callable[[], object] = bool
        self._hub = Hub(
            limits,
            clock,
            recorder,
            lambda: self.stats().to_dict(),
            self._abort,
            on_room=self.on_room,
            farewell=lambda: () if self.tooling is None else self.tooling.end(),
        )
        self.stop = self._hub.stop
        self._life = threading.Lock()
        self._state = "new"
        self._closed = threading.Event()
        self._started_s = clock.monotonic()
        self._connect_ms: float | None = None

    # --- life ---------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"while closing: {failure}")

    def open(self) -> None:
        """Begin. After an error nothing is left open.

        Errors: ConnectError and its kinds; ClosedError when `close` came first.
        """
        with self._life:
            if self._state != "new":
                raise ClosedError("a session opens once: make a new one")
            self._state = "opening"
        self._started_s = self._clock.monotonic()
        try:
            self._hub.start()
            self._begin(Deadline(self.limits.open_timeout_s or None, self._clock))
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        self._connect_ms = round((self._clock.monotonic() - self._started_s) * 1000, 3)
        with self._life:
            if self._state == "opening":
                self._state = "open"

    def close(self) -> None:
        """End the session: send what is queued, finish the files, join the threads.

        One deadline for everything (`Limits.close_timeout_s`); idempotent; from any thread. From an observer it only
        begins the end, because the audio thread cannot wait for itself: readers end, and whoever holds the session
        closes it.
        Errors: the first exception of a thread; ShutdownError for threads that do not end.
        """
        if self.owns(threading.current_thread()):
            self.stop.set()
            return
        with self._life:
            before, self._state = self._state, "closed"
        if before == "closed":
            self._closed.wait(self.limits.close_timeout_s + 1)
            return
        try:
            self._shut_down()
        finally:
            self._hub.end_readers()
            self._closed.set()

    def _shut_down(self) -> None:
        deadline = Deadline(self.limits.close_timeout_s, self._clock)
        self.stop.set()
        self._end()
        self._hub.finish(self._how_it_ended())  # an observer may hold the thread that would have said so
        self._hub.join(deadline)
        stuck = [thread for thread in (*self._threads(), self._hub.audio.thread) if thread.is_alive()]
        if stuck:
            names = tuple(thread.name for thread in stuck)
            limit = f"{self.limits.close_timeout_s:g} s"
            raise ShutdownError(f"still running {limit} after close: {stacks(stuck)}", threads=names)
        failure = self._failure() or self._hub.audio.error
        if failure is not None:
            raise failure

    @property
    def error(self) -> RealtimeError | None:
        """Why the session ended against our will; None while it runs or when it ended as asked."""
        return self._hub.error

    def owns(self, thread: threading.Thread) -> bool:
        """Whether a thread must wait neither for the session nor for the network: its own, and an event loop's."""
        return thread is self._hub.audio.thread or thread is self._loop or thread in self._threads()

    # --- event loops --------------------------------------------------------------------------------------------------

    def never_wait_in(self, loop: threading.Thread, tell_room: Callable[[], object]) -> None:
        """Let no call of an event loop's thread wait: it gets a QueueFullError, and nothing is sent.

        tell_room: called, in any thread and under a lock, when such a call may find room, or is no longer needed.
        """
        self._loop, self._tell_room = loop, tell_room

    def on_room(self) -> None:
        """Tell an event loop that a call may find room."""
        self._tell_room()

    def is_behind(self) -> bool:
        """Whether observers and recorder are behind, so that calls wait for them."""
        return self._hub.inbound.crowded

    @property
    def in_step(self) -> bool:
        """Whether the server has read all but the last five seconds of what was sent `in_step`."""
        return True

    def _check_open(self) -> None:
        if self.error is not None:
            raise self.error
        if self._state == "new":
            raise ClosedError("the session is not open yet: use `with`, or call open()")
        if self._state == "closed" or self.stop.is_set():
            how = self._how_it_ended()
            raise ClosedError("the session is closed" if how == "closed" else f"the session is over: {how}")

    @abstractmethod
    def _begin(self, deadline: Deadline) -> None:
        """Open the wire, and return when the other side is ready."""

    @abstractmethod
    def _end(self) -> None:
        """Send what is queued, close the wire, and wait for its threads, for most of `Limits.close_timeout_s`."""

    @abstractmethod
    def _abort(self) -> None:
        """Cut the wire; called when the audio thread failed."""

    @abstractmethod
    def _threads(self) -> list[threading.Thread]:
        """The wire's threads that were started."""

    @abstractmethod
    def _failure(self) -> BaseException | None:
        """The first exception of a thread of the wire."""

    def _how_it_ended(self) -> str:
        """For people: `closed`, or how the other side ended it."""
        return "closed"

    # --- facts --------------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def facts(self) -> up.Facts:
        """What is true of the session now."""

    @property
    @abstractmethod
    def session_id(self) -> str:
        """The other side's name of the session."""

    @property
    @abstractmethod
    def where(self) -> str:
        """Where the other side is, as people are shown it."""

    @property
    @abstractmethod
    def answering(self) -> bool:
        """Whether an answer runs or is asked for, and nobody has cancelled it."""

    @property
    def model(self) -> str:
        """The model's name; '' if the other side does not say."""
        return self.facts.model

    @property
    def input_format(self) -> up.AudioFormat:
        """What `send_audio` takes."""
        return self.facts.input_format

    @property
    def output_format(self) -> up.AudioFormat:
        """What `AudioDelta` carries."""
        return self.facts.output_format

    @property
    def settled(self) -> bool:
        """Whether all changes that were asked for are in force, or never will be; at the latest after some seconds."""
        return True

    @abstractmethod
    def stats(self) -> Stats:
        """Return the session's figures so far."""

    def timings(self, response_id: str | None) -> TurnStats | None:
        """Return the figures of one answer; None for one that is not known any more."""
        with self._hub.lock:
            return next((turn for turn in reversed(self._hub.turns.turns) if turn.response_id == response_id), None)

    # --- speaking -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def send_text(self, text: str, *, respond: bool = True, images: Sequence[str] = ()) -> Sent:
        """Say something in writing. With `respond`, a running answer is interrupted and a new one asked for.

        images: data URIs, or addresses where the other side fetches them; they go before the text, which may be empty.
        Waits for room when the network is slow. Errors: UsageError for text that is empty or cannot be sent;
        QueueFullError after `Limits.write_timeout_s`; ClosedError; ConnectionLostError.
        """

    @abstractmethod
    def send_audio(self, audio: Buffer, *, in_step: bool = False) -> None:
        """Send audio of the user in `input_format`; any length, best 20 to 100 ms.

        audio: bytes; for PCM also any C-contiguous buffer of 16-bit integers; for floats see `realtime_client.pcm16`.
        in_step: for audio that comes faster than it was spoken: stay within five seconds of what the server has read.
        Waits for room when the network is slow. Errors: UsageError for any other audio; QueueFullError after
        `Limits.write_timeout_s`; ClosedError.
        """

    @abstractmethod
    def commit(self) -> None:
        """End the user's turn by hand (`facts.turn_end` is `manual`). Errors: UsageError below 100 ms of audio."""

    @abstractmethod
    def clear_input(self) -> None:
        """Throw away audio that is not committed."""

    @abstractmethod
    def respond(self) -> str:
        """Ask for an answer, queued behind a running one; returns the request's id."""

    @abstractmethod
    def cancel(self) -> bool:
        """Stop the running answer and the ones asked for; True if there was one."""

    @abstractmethod
    def withdraw(self, answer_id: str) -> bool:
        """Stop one answer and no other, running or asked for; True if there was one.

        answer_id: its id, or the id of the request for it. One that others asked for, too, goes on.
        """

    @abstractmethod
    def interrupt(self, cause: str = "speech") -> bool:
        """Cut the running answer, and the unheard tail of one that has just ended, at what was heard.

        cause: `speech` or `typed`. Unlike `cancel`, answers that are asked for and have not begun stay asked for.
        True if something was cut.
        """

    @abstractmethod
    def send_tool_result(self, call_id: str, output: str, *, respond: bool = True) -> str:
        """Send what a tool returned; after the last open call of an answer, a new answer is asked for.

        Returns the item's id. Errors: UsageError for a call that was not made or has its result, and for output that is
        not text.
        """

    def approve(self, request_id: str, *, approve: bool, reason: str | None = None, remember: bool = False) -> None:
        """Allow or refuse a call of a tool that waits to be allowed (`ApprovalRequested`).

        reason: for the model, why not. remember: decide so about this tool from now on, in later sessions, too.
        Errors: UsageError when no such call waits.
        """
        check_text(request_id, "request_id")
        check_text(reason or "", "the reason")
        check_kind(approve, bool, "True or False")
        check_kind(remember, bool, "True or False")
        self._check_open()
        tooling = self.tooling
        if tooling is None or not tooling.decide(request_id, approve=approve, reason=reason, remember=remember):
            self._approve_remote(request_id, approve=approve, reason=reason)

    def _approve_remote(self, request_id: str, *, approve: bool, reason: str | None) -> None:  # noqa: ARG002
        """Allow or refuse a call that the model's server makes."""
        raise UsageError(f"no call {request_id[:100]!r} waits to be allowed")

    @abstractmethod
    def change(self, changes: Changes) -> None:
        """Change settings. `SessionChanged` confirms, even if nothing was to change."""

    def tell(self, update: up.Update) -> None:
        """Pass an update of this program's own (a device that changed) to observers and the recording."""
        check_kind(update, up.Update, "an update")
        self._check_open()
        with self._hub.lock:
            now = self._clock.monotonic()
            self._hub.publish((update,), now)
        self._hub.tell_directly((update,), now)

    # --- listening ----------------------------------------------------------------------------------------------------

    def observe(self, observer: Observer, *, direct: bool = False) -> Callable[[], None]:
        """Call `observer(update, at_s)` for every update, in order, in the audio thread; returns what ends it.

        It must be quick and not wait: while it runs, nothing else of this session is processed. Its exception ends the
        session and is raised by `close`.
        direct: call it where the update arises, without the hand-off to the audio thread: in the receive thread, and
        for what a call of this program causes, in the thread of that call. For programs with hundreds of sessions.
        """
        check_call(observer, "an observer")
        return self._hub.observe(observer, direct=direct)

    @abstractmethod
    def observe_events(self, observer: EventObserver) -> None:
        """Call `observer(type, at_s)` for each message of the server, by its type on the wire, in the receive thread.

        The updates that a message means are told after it. Meant for those who test servers.
        """

    def updates(self, timeout_s: float | None = None) -> Subscription:
        """Iterate over updates from now on; see `Subscription`. timeout_s: longest wait for one update."""
        return self._hub.read(seconds(timeout_s, "timeout_s"))

    def ask(self, text: str | None = None, *, audio: Buffer | None = None, timeout_s: float = 60.0) -> Answer:
        """Say one thing, in writing or as audio, and wait for the whole answer.

        Where `tooling` runs tools, that is the answer after their results, with the calls of all answers on the way.
        audio: in `input_format`; silence that ends the turn is added, or it is committed when turn detection is off.
        Errors: UsageError; TimeLimitError; ResponseFailedError when the request is refused; ConnectionLostError. A text
        model that cannot be asked fails here, too: ConnectError and its kinds.
        """
        data = check_ask(text, audio, self.facts)
        deadline = Deadline(seconds(timeout_s, "timeout_s"), self._clock)
        self._check_may_wait("ask()")
        with self.updates() as updates:
            if data is not None:
                self._await_changes(updates)  # who ends the turn may be one of them
            request = self.send_text(text).request_id if text is not None else say(self, data or b"", fast=True)
            return self._follow(updates.until(deadline), request, timeout_s)

    def next_answer(self, *, after: Callable[[], object] | None = None, timeout_s: float = 60.0) -> Answer:
        """Wait for the next answer that begins from now on, without asking for one.

        after: what causes it, called once nothing of the answer can be missed, for example
        `session.next_answer(after=lambda: session.send_tool_result(call_id, "5"))`; if it returns a request (`respond`,
        `send_text`), the refusal of that is an error. Errors: as those of `ask`.
        """
        deadline = Deadline(seconds(timeout_s, "timeout_s"), self._clock)
        check_call(after or bool, "after")
        self._check_may_wait("next_answer()")
        with self.updates() as updates:
            caused = after() if after is not None else None
            return self._follow(updates.until(deadline), None, timeout_s, request_of(caused))

    def _check_may_wait(self, call: str) -> None:
        if self.owns(threading.current_thread()):
            raise UsageError(f"{call} waits for updates, which this thread brings: call it outside of observers")

    def _await_changes(self, updates: Subscription) -> None:
        while not (self.settled or self.stop.is_set()):
            with contextlib.suppress(TimeLimitError):
                next(updates.until(Deadline(LOOK_S, self._clock)), None)

    def _follow(
        self, updates: Iterator[up.Update], request: str | None, timeout_s: float, cause: str | None = None
    ) -> Answer:
        """Follow one answer to its end."""
        follower = TurnFollower(request, self.output_format, tools_run=self.tooling is not None)
        follower.cause = cause
        try:
            for update in updates:
                follower.take(update)
                if follower.complete:
                    break
            else:
                raise self.over()
        except TimeLimitError as error:
            raise TimeLimitError(f"no complete answer within {timeout_s:g} s") from error
        return self.answer_of(follower)

    def answer_of(self, follower: TurnFollower) -> Answer:
        """Return the answer that was followed, with its figures. Errors: what it failed with."""
        if follower.error is not None:
            raise follower.error
        return follower.answer(self.timings(follower.response_id))

    def over(self) -> RealtimeError:
        """The error for whoever waits for an answer when the session is over."""
        return self.error or ClosedError("the session was closed before the answer")
