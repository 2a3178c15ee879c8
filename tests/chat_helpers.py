"""A conversation with text models without any server: tests bring the pieces, and move the clock."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from realtime_client import updates as up
from realtime_client.chat.breaker import Breaker, MemoryStore
from realtime_client.chat.chain import OnError
from realtime_client.chat.conversation import Conversation
from realtime_client.chat.limits import ChatLimits
from realtime_client.chat.orders import Abort, Begin, Consult, Wishes
from realtime_client.chat.place import Place
from realtime_client.chat.wires import pieces as pc
from realtime_client.chat.wires.faults import CUT, Fault, network
from realtime_client.chat.wires.openai_chat import OpenAIChat
from realtime_client.history import Call, Part, Text

T = TypeVar("T", bound=up.Update)


class Prefilling(OpenAIChat):
    """A wire that goes on from the beginning of an answer."""

    prefills = True


def place(name: str = "one", *, prefills: bool = False) -> Place:
    wire = Prefilling() if prefills else OpenAIChat()
    return Place(provider="openai", model=name, base_url=f"http://{name}.test/v1", wire=wire)


def cut() -> Fault:
    return network("the answer was cut", code=CUT)


def busy(**more: Any) -> Fault:
    return Fault(category="application", action="retry", message="too busy", status=503, **more)


def refused() -> Fault:
    return Fault(category="application", action="fatal", message="no such thing", status=400, trips=False)


class Talk:
    """A conversation, its clock, and what it has told and asked for."""

    def __init__(
        self,
        *names: str,
        limits: ChatLimits | None = None,
        wishes: Wishes | None = None,
        prefills: bool = False,
        on_error: OnError | None = None,
    ) -> None:
        self.now_s = 100.0
        places = [place(name, prefills=prefills) for name in names or ("one",)]
        store = MemoryStore()
        self.conversation = Conversation(
            places,
            [Breaker(each.name, store) for each in places],
            wishes=wishes or Wishes(),
            limits=limits or ChatLimits(),
            now_s=lambda: self.now_s,
            on_error=on_error,
        )
        self.told: list[up.Update] = list(self.conversation.start())
        self.begun: list[Begin] = []
        self.aborted: list[str] = []

    def do(self, action: Callable[[], Any]) -> Any:
        """Do something, and note what it tells (the last thing that it returns) and asks for."""
        result = action()
        happened = result[-1] if isinstance(result, tuple) else result
        self.told += happened
        answers = self.conversation.answers
        commands, answers.commands = answers.commands, []
        for command in commands:
            if isinstance(command, Abort):
                self.aborted.append(command.stream)
            elif isinstance(command, Consult):
                self.do(functools.partial(answers.decided, command, *answers.judged(command)))
            else:
                self.begun.append(command)
        return result

    # What the user does

    def say(self, text: str, **more: Any) -> Any:
        return self.do(lambda: self.conversation.say(text, respond=True, **more))

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.do(self.conversation.tick)

    # What the streams bring

    def bring(self, begin: Begin, *pieces: pc.Piece, parts: Sequence[Part] = ()) -> None:
        self.do(lambda: self.conversation.answers.take(begin.stream, pieces, lambda: tuple(parts)))

    def text(self, text: str, begin: Begin | None = None) -> None:
        begin = begin or self.begun[-1]
        self.bring(begin, pc.TextPiece(begin.stream, 0, self.now_s, text))

    def finish(self, text: str = "", begin: Begin | None = None, reason: pc.Reason = "stop") -> None:
        """The stream says so much, all in all, and is over."""
        begin = begin or self.begun[-1]
        parts = (Text(text=text),) if text else ()
        self.bring(begin, pc.FinishPiece(begin.stream, 1, self.now_s, reason), parts=parts)

    def answer(self, text: str, begin: Begin | None = None) -> None:
        self.text(text, begin)
        self.finish(text, begin)

    def call(self, name: str = "clock", call_id: str = "call_1", arguments: str = "{}") -> None:
        begin = self.begun[-1]
        done = pc.CallDonePiece(begin.stream, 0, self.now_s, call_id, name, arguments)
        finish = pc.FinishPiece(begin.stream, 1, self.now_s, "tool_calls")
        self.bring(begin, done, finish, parts=[Call(call_id=call_id, name=name, arguments=arguments)])

    def fail(self, fault: Fault, begin: Begin | None = None) -> None:
        begin = begin or self.begun[-1]
        self.bring(begin, pc.ErrorPiece(begin.stream, 1, self.now_s, fault))

    # What came of it

    def all(self, kind: type[T]) -> list[T]:
        return [each for each in self.told if isinstance(each, kind)]

    def last(self, kind: type[T]) -> T:
        return self.all(kind)[-1]

    @property
    def shown(self) -> str:
        return "".join(each.text for each in self.all(up.TextDelta))

    @property
    def history(self) -> list[str]:
        return [f"{entry.role}: {entry.said}" for entry in self.conversation.history.in_order()]

    def asked(self, begin: Begin | None = None) -> list[str]:
        """The conversation as the newest request tells it."""
        begin = begin or self.begun[-1]
        return [f"{entry.role}: {entry.said}" for entry in begin.ask.entries]
