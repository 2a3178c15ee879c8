"""The same session for asyncio programs.

    async with realtime_client.aio.connect(local=True) as session:
        print((await session.ask("What can you do?")).text)

The session lives in its threads, as everywhere. Calls that only queue something are made in the event loop's thread;
where there is no room, they fail without having sent anything, and are made again when a queue has room. What waits for
threads or for the network, opening and closing, has a thread of its own for as long as that takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Generator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack

from . import opening
from . import updates as up
from .changes import Changes
from .client.client import RealtimeClient
from .client.endpoint import Endpoint
from .deadline import Deadline
from .errors import ClosedError, QueueFullError, RealtimeError, TimeLimitError, UsageError
from .session.answer import Answer, TurnFollower
from .session.arguments import check_call, seconds
from .session.aside import Aside, Wake
from .session.session import LOOK_S, Sent, Session, request_of
from .session.stats import Stats
from .session.subscription import Subscription
from .session.utterance import check_ask, pieces
from .settings import Settings
from .settings.keywords import Keywords

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from .chat.session import ChatSession
    from .handover import StandbyClient
    from .toolset import Offered

S = TypeVar("S", bound=Session)
T = TypeVar("T")


def connect(
    settings: Settings | None = None,
    *,
    tools: Sequence[Offered] = (),
    asks: bool = False,
    continue_from: str | Path | None = None,
    **values: Unpack[Keywords],
) -> Connecting[RealtimeClient]:
    """Open a session at `async with`, and close it with all that belongs to it; see `realtime_client.connect`.

    `session = await connect()` opens it for longer than a block, for the cells of a notebook, until `close()`.
    """
    return _connecting(opening.connect(settings, tools=tools, asks=asks, continue_from=continue_from, **values))


def connect_text(
    settings: Settings | None = None,
    *,
    tools: Sequence[Offered] = (),
    asks: bool = False,
    continue_from: str | Path | None = None,
    **values: Unpack[Keywords],
) -> Connecting[ChatSession]:
    """Do as `connect` for a text model; see `realtime_client.connect_text`."""
    return _connecting(opening.connect_text(settings, tools=tools, asks=asks, continue_from=continue_from, **values))


def _connecting(way: opening.Connecting[S]) -> Connecting[S]:
    def open_it(prepared: Callable[[Session], object], loop: asyncio.AbstractEventLoop) -> S:
        way.loop = loop
        return way.open(prepared)

    return Connecting(open_it, lambda: way.__exit__(None, None, None))


def over(session: S) -> Connecting[S]:
    """Open a session that was made by hand: what `connect` returns, for one that is not open yet."""

    def open_it(prepared: Callable[[S], object], _loop: asyncio.AbstractEventLoop) -> S:
        prepared(session)
        session.open()
        return session

    return Connecting(open_it, session.close)


class Connecting(Generic[S]):
    """A session that `async with`, or `await`, opens. When cancelled, it leaves nothing open."""

    def __init__(
        self,
        open_it: Callable[[Callable[[Session], object], asyncio.AbstractEventLoop], S],
        leave: Callable[[], object],
    ) -> None:
        self._open = open_it
        self._leave = leave
        self._lock = threading.Lock()
        self._unwanted = False
        self._begun: Session | None = None
        self._session: AsyncSession[S] | None = None

    async def __aenter__(self) -> AsyncSession[S]:
        closers: list[Aside[object]] = []
        loop = asyncio.get_running_loop()
        opened = Aside("realtime-aio-open", lambda: self._open(self._prepared, loop))
        try:
            session = await opened.end(on_cancel=lambda: closers.append(Aside("realtime-aio-close", self._give_up)))
        except asyncio.CancelledError:
            if opened.outcome.exception() is None:  # too late to stop it
                closers.append(Aside("realtime-aio-close", self._leave))
            for closer in closers:
                with contextlib.suppress(Exception):  # the cancellation is what counts
                    await closer.end()
            raise
        self._session = AsyncSession(session, self._leave)
        return self._session

    def __await__(self) -> Generator[Any, None, AsyncSession[S]]:
        return self.__aenter__().__await__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        try:
            await self._session.close()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"while closing: {failure}")

    def _prepared(self, session: Session) -> None:
        with self._lock:
            self._begun = session
            if self._unwanted:
                raise ClosedError("cancelled while connecting")

    def _give_up(self) -> None:
        with self._lock:
            self._unwanted = True
        if self._begun is not None:
            self._begun.close()


class AsyncSession(Generic[S]):
    """A session in asyncio's words; `session` is the threaded one, for what is not here.

    All methods belong to the event loop in which it was opened; meaning, arguments and errors are those of `Session`.
    Calls of the loop's thread on `session` itself never wait: where they would, they raise a QueueFullError, and its
    `close` only begins the end.
    """

    def __init__(self, session: S, leave: Callable[[], object]) -> None:
        self.session = session
        self._leave = leave
        self._closing: Aside[object] | None = None
        self._turn = asyncio.Lock()
        self._room = Wake()
        session.never_wait_in(threading.current_thread(), self._room.ring)

    async def close(self) -> None:
        """End the session within its close time limit, even when cancelled; see `Session.close`. Idempotent."""
        first = self._closing is None
        self._closing = self._closing or Aside("realtime-aio-close", self._leave)
        try:
            await self._closing.end()
        except Exception:
            if first:  # it is raised once
                raise

    @property
    def facts(self) -> up.Facts:
        """What is true of the session now."""
        return self.session.facts

    @property
    def stats(self) -> Stats:
        """The session's figures so far."""
        return self.session.stats()

    # --- speaking -----------------------------------------------------------------------------------------------------

    async def _call(self, call: Callable[[], T]) -> T:
        """Make a call that needs room, in the order in which they came, however many tasks call."""

        def attempt() -> tuple[T] | None:
            with contextlib.suppress(QueueFullError):  # nothing is decided then
                return None if self.session.is_behind() else (call(),)
            return None

        async with self._turn:
            (result,) = await self._wait(attempt, self.session.limits.write_timeout_s)
        return result

    async def _wait(self, look: Callable[[], T | None], limit_s: float) -> T:
        try:
            return await self._room.until(look, limit_s)
        except TimeoutError:
            raise QueueFullError(f"messages wait, and the server does not take them: waited {limit_s:g} s") from None

    async def send_text(self, text: str, *, respond: bool = True, images: Sequence[str] = (), answers: int = 1) -> Sent:
        """Say something in writing, with images (data URIs) where the other side takes them.

        answers: for text models, so many at once; see `ChatSession.send_text`.
        """
        if answers == 1:
            return await self._call(lambda: self.session.send_text(text, respond=respond, images=images))
        chat = self._chat("several answers")
        return await self._call(lambda: chat.send_text(text, respond=respond, images=images, answers=answers))

    async def send_audio(self, audio: Buffer, *, in_step: bool = False) -> None:
        """Send audio of the user in `facts.input_format`."""
        await self._call(lambda: self.session.send_audio(audio, in_step=in_step))
        if in_step:
            limits = self.session.limits
            await self._wait(lambda: self.session.in_step or None, limits.write_timeout_s + limits.pong_timeout_s)

    async def commit(self) -> None:
        """End the user's turn by hand."""
        await self._call(self.session.commit)

    async def clear_input(self) -> None:
        """Throw away audio that is not committed."""
        await self._call(self.session.clear_input)

    async def respond(self, *, answers: int = 1) -> str:
        """Ask for an answer; returns the request's id. answers: for text models, so many at once."""
        if answers == 1:
            return await self._call(self.session.respond)
        chat = self._chat("several answers")
        return await self._call(lambda: chat.respond(answers=answers))

    async def retry(self, answers: int = 1) -> str:
        """Ask a text model again; see `ChatSession.retry`."""
        chat = self._again("asking again")
        return await self._call(lambda: chat.retry(answers))

    async def edit(self, text: str) -> Sent:
        """Say the last message to a text model in other words; see `ChatSession.edit`."""
        chat = self._again("changing a message")
        return await self._call(lambda: chat.edit(text))

    async def choose(self, index: int, item_id: str | None = None) -> None:
        """Let another answer of a text model stand in the conversation; see `ChatSession.choose`."""
        chat = self._again("choosing an answer")
        await self._call(lambda: chat.choose(index, item_id))

    def _chat(self, what: str) -> ChatSession:
        """Return the session where it is with text models. Errors: UsageError for others."""
        from .chat.session import ChatSession

        if not isinstance(self.session, ChatSession):
            raise UsageError(f"{what}: only text models have that, such as ollama/llama3.2")
        return self.session

    def _again(self, what: str) -> ChatSession | StandbyClient:
        """As `_chat`, and a session for which text models stand by."""
        from .handover import StandbyClient

        return self.session if isinstance(self.session, StandbyClient) else self._chat(what)

    async def cancel(self) -> bool:
        """Stop the running answer and the ones asked for."""
        return self.session.cancel()

    async def interrupt(self, cause: str = "speech") -> bool:
        """Cut the running answer at what was heard."""
        return self.session.interrupt(cause)

    async def approve(
        self, request_id: str, *, approve: bool, reason: str | None = None, remember: bool = False
    ) -> None:
        """Allow or refuse a call of a tool that waits to be allowed; see `Session.approve`."""
        await self._call(lambda: self.session.approve(request_id, approve=approve, reason=reason, remember=remember))

    async def send_tool_result(self, call_id: str, output: str, *, respond: bool = True) -> str:
        """Send what a tool returned; returns the item's id."""
        return await self._call(lambda: self.session.send_tool_result(call_id, output, respond=respond))

    async def change(self, changes: Changes) -> None:
        """Change settings."""
        await self._call(lambda: self.session.change(changes))

    async def reconnect(self, endpoint: Endpoint | None = None) -> None:
        """Go on over a new connection, to another endpoint or to the same one; see `RealtimeClient.reconnect`.

        When cancelled, it is waited for all the same: a session is not left between two connections.
        """
        if not isinstance(self.session, RealtimeClient):
            raise UsageError("reconnect(): a text model is asked over a new connection each time")
        client = self.session
        await Aside("realtime-aio-reconnect", lambda: client.reconnect(endpoint)).end()

    # --- listening ----------------------------------------------------------------------------------------------------

    def updates(self, timeout_s: float | None = None) -> Updates:
        """Iterate over updates from now on. timeout_s: longest wait for one update."""
        return Updates(self.session.updates(), seconds(timeout_s, "timeout_s"))

    async def ask(
        self,
        text: str | None = None,
        *,
        audio: Buffer | None = None,
        timeout_s: float = 60.0,
        images: Sequence[str] = (),
        answers: int = 1,
    ) -> Answer:
        """Say one thing and wait for the whole answer; images and answers: see `send_text`, and `ChatSession.ask`.

        When cancelled, it stops that answer and no other. The exception is an answer to audio that the server
        gives of its own accord and that has not begun by then.
        """
        data = None if images and text is not None and audio is None else check_ask(text, audio, self.facts)
        deadline = Deadline(seconds(timeout_s, "timeout_s"))
        follower = TurnFollower(None, self.session.output_format, tools_run=self.session.tooling is not None)

        async def say() -> None:
            if text is not None:
                follower.request = (await self.send_text(text, images=images, answers=answers)).request_id
                return
            await self._changes()
            facts = self.facts
            for piece in pieces(data or b"", facts.input_format, facts.ending_silence_ms):
                await self.send_audio(piece, in_step=True)
            if not facts.ending_silence_ms:
                await self.commit()
                follower.request = await self.respond()

        try:
            answer = await self._follow(follower, say, timeout_s)
            return answer if answers == 1 else await self._with_others(answer, deadline)
        except asyncio.CancelledError:
            self._withdraw(follower)
            if data is not None and follower.request is None:
                with contextlib.suppress(RealtimeError):
                    self.session.clear_input()
            raise

    async def _changes(self) -> None:
        """Wait until changes that were asked for are in force: who ends the turn may be one of them."""
        with contextlib.closing(self.updates()) as updates:
            while not (self.session.settled or self.session.stop.is_set()):
                with contextlib.suppress(TimeLimitError, StopAsyncIteration):
                    await updates.next(LOOK_S)

    async def next_answer(
        self, *, after: Callable[[], Awaitable[object]] | None = None, timeout_s: float = 60.0
    ) -> Answer:
        """Wait for the next answer that begins from now on, without asking for one.

        after: what causes it, for example `lambda: session.send_tool_result(call_id, "5")`. Cancelled, it stops the
        answer that `after` caused, if that has begun.
        """
        check_call(after or bool, "after")
        follower = TurnFollower(None, self.session.output_format, tools_run=self.session.tooling is not None)
        try:
            return await self._follow(follower, after, timeout_s)
        except asyncio.CancelledError:
            if after is not None:
                self._withdraw(follower)
            raise

    async def _follow(
        self, follower: TurnFollower, cause: Callable[[], Awaitable[object]] | None, timeout_s: float
    ) -> Answer:
        """Follow one answer to its end."""
        deadline = Deadline(seconds(timeout_s, "timeout_s"))
        async with self.updates() as updates:
            if cause is not None:
                follower.cause = request_of(await cause())
            try:
                while not follower.complete:
                    follower.take(await updates.next(deadline.remaining_s()))
            except TimeLimitError as error:
                raise TimeLimitError(f"no complete answer within {timeout_s:g} s") from error
            except StopAsyncIteration:
                raise self.session.over() from None
        return self.session.answer_of(follower)

    async def _with_others(self, answer: Answer, deadline: Deadline) -> Answer:
        """Wait for the answers beside this one, too."""
        chat = self._chat("several answers")
        async with self.updates() as updates:
            with contextlib.suppress(StopAsyncIteration):
                while chat.makes_others(answer) and not deadline.expired:
                    with contextlib.suppress(TimeLimitError):
                        await updates.next(deadline.at_most_s(LOOK_S))
        return chat.with_others(answer)

    def _withdraw(self, follower: TurnFollower) -> None:
        """Nobody waits for this answer any longer."""
        answer_id = follower.request or follower.response_id
        if answer_id is not None:
            with contextlib.suppress(RealtimeError):  # the session is over, too
                self.session.withdraw(answer_id)


class Updates:
    """An asynchronous iterator over updates; see `Subscription`. `async with`, or `close()`, ends it early."""

    def __init__(self, subscription: Subscription, timeout_s: float | None) -> None:
        self._subscription = subscription
        self._timeout_s = timeout_s
        self._wake = Wake()
        subscription.wakes(self._wake.ring)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> up.Update:
        return await self.next(self._timeout_s)

    async def next(self, timeout_s: float | None) -> up.Update:
        """Return the next update. Errors: StopAsyncIteration at the end, and those of `Subscription`."""
        try:
            return await self._wake.until(self._take, timeout_s)
        except TimeoutError:
            raise TimeLimitError("no update in time") from None

    def _take(self) -> up.Update | None:
        try:
            return self._subscription.take()
        except StopIteration:
            raise StopAsyncIteration from None

    def close(self) -> None:
        """Stop taking updates, and end whoever reads. Idempotent."""
        self._subscription.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
