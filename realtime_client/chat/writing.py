"""What a session in writing can be asked to do, whatever else it is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from realtime_client import updates as up
from realtime_client.changes import Changes
from realtime_client.errors import UsageError
from realtime_client.session.arguments import check_call, check_fields, check_kind, check_said, check_text
from realtime_client.session.hub import Hub
from realtime_client.session.observers import EventObserver
from realtime_client.session.session import Sent

from .chain import OnError
from .engine import TextEngine
from .hooks import MakeFilter, OnResult, Watcher

if TYPE_CHECKING:
    from typing_extensions import Buffer

T = TypeVar("T")


class Writing:
    """The calls of a `Session` where text models answer, and what only these have.

    What has no description here has that of `Session`. What concerns sound is a UsageError. `_engine`, `_hub`,
    `_check_open` and `owns` are those of the session.
    """

    _engine: TextEngine
    _hub: Hub
    _check_open: Callable[[], None]
    owns: Callable[[threading.Thread], bool]

    def _act(self, call: Callable[[], T]) -> T:
        """Do something that the conversation decides about, and wait while the observers are behind."""
        self._check_open()
        result = call()
        if not self.owns(threading.current_thread()):
            self._hub.wait_for_room()
        return result

    def send_text(self, text: str, *, respond: bool = True, images: Sequence[str] = (), answers: int = 1) -> Sent:
        """Say something in writing; see `Session.send_text`.

        answers: so many are asked for at once; the first one is the answer, the others stand beside it
        (`Alternatives`).
        """
        if images and not self.owns(threading.current_thread()):
            self._engine.wait_for_facts()  # does the model see? It would answer all the same
        check_said(text, images, self._engine.conversation.facts)
        check_kind(answers, int, "the number of answers")
        return self._act(lambda: self._engine.say(text, images, respond=respond, answers=answers))

    def send_audio(self, audio: Buffer, *, in_step: bool = False) -> None:
        del audio, in_step
        raise self._deaf()

    def commit(self) -> None:
        raise self._deaf()

    def clear_input(self) -> None:
        raise self._deaf()

    def _deaf(self) -> UsageError:
        return UsageError(
            f"{self._engine.conversation.facts.model} takes text, not sound; for sound, choose a realtime model"
        )

    def respond(self, *, answers: int = 1) -> str:
        check_kind(answers, int, "the number of answers")
        return self._act(lambda: self._engine.act(lambda: self._engine.conversation.respond(answers)))

    def cancel(self) -> bool:
        return self._act(lambda: self._engine.act(self._engine.conversation.cancel))

    def withdraw(self, answer_id: str) -> bool:
        return self._act(lambda: self._engine.act(lambda: self._engine.conversation.withdraw(answer_id)))

    def interrupt(self, cause: str = "speech") -> bool:
        check_text(cause, "the cause")
        return self._act(lambda: self._engine.interrupt(cause))

    def send_tool_result(self, call_id: str, output: str, *, respond: bool = True) -> str:
        check_text(call_id, "call_id")
        check_text(output, "the output of a tool")
        return self._act(
            lambda: self._engine.act(lambda: self._engine.conversation.tool_result(call_id, output, respond=respond))
        )

    def change(self, changes: Changes) -> None:
        check_fields(changes, Changes, "changes of settings (realtime_client.Changes)")
        self._act(lambda: self._engine.act(lambda: (None, self._engine.conversation.change(changes))))

    def retry(self, answers: int = 1) -> str:
        """Ask again for the last answer, or for one that failed; returns the request's id.

        answers: so many at once. What the answer was before stands beside the new one. Errors: UsageError.
        """
        check_kind(answers, int, "the number of answers")
        return self._act(lambda: self._engine.act(lambda: self._engine.conversation.retry(answers)))

    def edit(self, text: str) -> Sent:
        """Say the last message in other words, and ask again. Errors: UsageError."""
        check_text(text, "the text")
        if not text.strip():
            raise UsageError("there is nothing to send: the text is empty")

        def decide() -> tuple[Sent, Sequence[up.Update]]:
            item_id, request_id, happened = self._engine.conversation.edit(text)
            return Sent(item_id, request_id), happened

        return self._act(lambda: self._engine.act(decide))

    def choose(self, index: int, item_id: str | None = None) -> None:
        """Let another answer stand in the conversation.

        index: from 0, in `Alternatives.texts`; item_id: default the newest. Errors: UsageError.
        """
        check_kind(index, int, "the number of an answer")
        self._act(lambda: self._engine.act(lambda: (None, self._engine.conversation.kept.choose(index, item_id))))

    def decide_faults(self, decide: OnError | None) -> None:
        """Let a function decide otherwise about faults: `decide(fault, place)` returns an action, None for the planned.

        Actions are `retry`, `restart`, `fallback` and `fatal`. It is called while the session decides: it must be quick
        and call nothing of the session. One that fails, or returns another word, ends the answer.
        """
        check_call(decide or bool, "what decides about faults")
        self._engine.decide_faults(decide)

    def add_filter(self, make: MakeFilter) -> None:
        """Let a filter change the text of the answers, from the next one on.

        make: called for each stream, returns the filter: a function of a piece of text that returns what is shown and
        kept instead, with an optional method `end` that returns the rest. A filter that fails ends the answer.
        """
        check_call(make, "a filter's maker")
        self._engine.add_filter(make)

    def watch(self, watcher: Watcher, on_result: OnResult = bool) -> None:
        """Call `watcher(piece)` for each piece of every stream, in a thread of its own.

        on_result: gets what it returns (but None), in the order of the pieces. Several run side by side; how many
        pieces may wait, and what happens when one is too slow, say `chunk_buffer` and `when_full` of the limits.
        """
        check_call(watcher, "a watcher")
        check_call(on_result, "on_result")
        self._engine.watch(watcher, on_result)

    def observe_events(self, observer: EventObserver) -> None:
        check_call(observer, "an observer")
        self._engine.observe_events(observer)
