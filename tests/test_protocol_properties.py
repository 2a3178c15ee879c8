"""The client's side of a conversation under every order and every cut, and for ever."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from conversation_script import BUSY, MS, USAGE, Scene, only
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from realtime_client import updates as up
from realtime_client.errors import UsageError
from realtime_client.protocol import codec, items
from realtime_client.protocol import events as ev
from realtime_client.protocol.conversation import Conversation
from realtime_client.protocol.order import ItemOrder


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_an_answer_with_parts_without_end(scene: Scene) -> None:
    scene.created()
    for n in range(3000):
        scene.text("x", item=f"item_{n}", output=n, part=n)
        scene.audio(1, item=f"item_{n}", output=n, part=n)
        item = {"id": f"item_{n}", "type": "message", "role": "assistant"}
        scene.get("response.output_item.added", response_id="resp_1", output_index=n, item=item)
        scene.call(f"c{n}")
    answer = scene.it.book.running["resp_1"]
    kept = (answer.texts, answer.audio_bytes, answer.item_ids, answer.calls, answer.open_calls)
    assert all(len(each) <= 256 for each in kept)
    assert len(only(scene.done(), up.ResponseDone).text.replace("\n", "")) == 3000  # not a word is lost


def test_usage_with_keys_without_end(scene: Scene) -> None:
    kind = "conversation.item.input_audio_transcription.completed"
    for n in range(1000):
        usage = {f"k{n}": 1, "seconds": 1.5, "huge": 10**400, "text": "x"}
        scene.get(kind, item_id="u", content_index=0, transcript="x", usage=usage)
    assert len(scene.it.transcription_usage) <= 32
    assert scene.it.transcription_usage["seconds"] == 1500


def test_many_items_behind_one_that_never_comes() -> None:
    order = ItemOrder()
    for n in range(32_000):
        order.place(f"i{n}", "never")
    assert len(order) <= 1024
    assert sum(map(len, order._awaited.values())) <= 64
    order.place("never", None)
    assert order.previous("i31999") is not None


def test_memory_does_not_grow_with_the_session(scene: Scene) -> None:
    """A server that never ends answers, never confirms items and never answers calls."""
    for n in range(1000):
        scene.created(f"resp_{n}")
        scene.call(f"c{n}", response=f"resp_{n}")
        scene.done(f"resp_{n}")
        scene.created(f"lost_{n}")
        scene.it.gate.active_id = None
        scene.it.add_item(items.user_text("x"))
        scene.it.say("y", respond=False)
        scene.it.ask({"conversation": "none"})
        scene.sent()
    it = scene.it
    held = [
        it.book.running,
        it.book._over,
        it.book.recent,
        it._own_items,
        it.requests._apart,
        it._answering.tools._open,
        it.gate._ended,
    ]
    assert all(len(each) <= 256 for each in held)


# --- every order, every cut -------------------------------------------------------------------------------------------


def voice_turn(n: int) -> list[dict[str, Any]]:
    """Everything a server says in one voice turn with audio, a function call, a remote tool and a transcript."""
    r, u, a, c, m = f"resp_{n}", f"user_{n}", f"item_{n}", f"call_{n}", f"mcp_{n}"
    where = {"response_id": r, "item_id": a, "output_index": 0, "content_index": 0}
    message = {"id": a, "type": "message", "role": "assistant", "content": []}
    call = {"id": c, "type": "function_call", "status": "completed", "call_id": c, "name": "f", "arguments": "{}"}
    mcp = {"id": m, "type": "mcp_call", "server_label": "s", "name": "t", "arguments": "{}"}
    user = {"id": u, "type": "message", "role": "user", "content": [{"type": "input_audio"}]}
    prefix = "conversation.item.input_audio_transcription"
    return [
        {"type": "input_audio_buffer.speech_started", "item_id": u, "audio_start_ms": 10},
        {"type": "input_audio_buffer.speech_stopped", "item_id": u, "audio_end_ms": 900},
        {"type": "input_audio_buffer.committed", "item_id": u, "previous_item_id": f"item_{n - 1}"},
        {"type": "conversation.item.added", "item": user, "previous_item_id": f"item_{n - 1}"},
        {"type": "conversation.item.done", "item": user},
        {"type": "response.created", "response": {"id": r, "status": "in_progress"}},
        {"type": "response.output_item.added", "response_id": r, "output_index": 0, "item": message},
        {"type": "conversation.item.added", "item": message, "previous_item_id": u},
        {"type": "response.output_audio.delta", **where, "delta": "AAAA" * 640},
        {"type": "response.output_audio_transcript.delta", **where, "delta": "hello"},
        {"type": "response.output_audio.delta", **where, "delta": "AAAA" * 64},
        {"type": "response.output_audio.done", **where},
        {"type": "response.output_audio_transcript.done", **where, "transcript": "hello"},
        {"type": "response.output_item.done", "response_id": r, "output_index": 0, "item": message},
        {"type": "response.output_item.added", "response_id": r, "output_index": 1, "item": mcp},
        {"type": "response.mcp_call.completed", "item_id": m, "output_index": 1},
        {"type": "response.output_item.done", "response_id": r, "output_index": 2, "item": call},
        {"type": f"{prefix}.completed", "item_id": u, "content_index": 0, "transcript": "hi"},
        {"type": "response.done", "response": {"id": r, "status": "completed", "usage": USAGE}},
        {"type": "error", "error": {"code": BUSY, "message": f"active: {r}"}},
        {"type": "error", "error": {"code": "response_cancel_not_active", "message": "no"}},
        {"type": "conversation.item.truncated", "item_id": a, "content_index": 0, "audio_end_ms": 1},
        {"type": "conversation.item.deleted", "item_id": a},
    ]


_FRAMES = [json.dumps({"event_id": "e", **event}).encode() for n in (1, 2) for event in voice_turn(n)]
_EVENTS = [codec.decode_server(frame) for frame in _FRAMES]


class Watch:
    """Checks what must hold whatever the server says and the user does."""

    def __init__(self) -> None:
        self.scene = Scene()
        self.scene.heard = {}
        self.cut: set[str] = set()
        self.received: Counter[tuple[str, int]] = Counter()
        self.unanswered: str | None = None

    def receive(self, event: Any) -> None:
        if isinstance(event, ev.ResponseDone | ev.Error):
            self.unanswered = None
        self.check(self.scene.it.receive(event))

    def act(self, action: Callable[[Conversation], Any]) -> None:
        try:
            result = action(self.scene.it)
        except UsageError:
            result = None
        self.check(result[1] if isinstance(result, tuple) else [])

    def check(self, updates: list[up.Update]) -> None:
        for update in updates:
            assert isinstance(update, up.Update)
            if isinstance(update, up.Interrupted):
                assert 0 <= update.heard_ms <= update.received_ms
                if update.response_id:
                    self.cut.add(update.response_id)
            elif isinstance(update, up.ResponseStarted):
                self.cut.discard(update.response_id)  # an id that is used again
            elif isinstance(update, up.AudioDelta):
                assert update.response_id not in self.cut
                self.received[update.item_id, update.content_index] += len(update.audio)
        for command in self.scene.sent():
            self.check_command(command)

    def check_command(self, command: ev.ClientEvent) -> None:
        assert isinstance(codec.decode_client(codec.encode(command)), type(command))
        assert command.event_id
        if isinstance(command, ev.ConversationItemTruncate):
            received = self.received[command.item_id, command.content_index]
            assert 0 < command.audio_end_ms <= received // MS
        elif isinstance(command, ev.ResponseCreate) and (command.response or {}).get("conversation") != "none":
            assert self.unanswered is None
            self.unanswered = command.event_id


_ACTIONS: list[Callable[[Conversation], Any]] = [
    lambda it: it.say("hello"),
    lambda it: it.say("hello", respond=False),
    lambda it: it.cancel(),
    lambda it: it.ask(),
    lambda it: it.ask({"conversation": "none"}),
    lambda it: it.tool_result("call_1", "x"),
    lambda it: it.tool_result("call_2", "x", respond=False),
    lambda it: it.approve("req", approve=True),
    lambda it: it.appended(48_000),
    lambda it: it.commit(),
    lambda it: it.clear_input(),
]


@given(st.permutations(range(len(_EVENTS))), st.integers(0, len(_EVENTS)))
@settings(max_examples=150)
def test_any_order_and_any_cut_of_the_servers_messages(order: list[int], length: int) -> None:
    watch = Watch()
    for n in order[:length]:
        watch.receive(_EVENTS[n])


class Anything(RuleBasedStateMachine):
    """Server messages, user's actions and playback in any order, with repetitions."""

    @initialize(detection=st.sampled_from([None, {"type": "server_vad"}, {"interrupt_response": False}]))
    def begin(self, detection: Any) -> None:
        self.watch = Watch()
        session = {"audio": {"input": {"turn_detection": detection}}}
        self.watch.receive(ev.SessionCreated(session=session))

    @rule(event=st.sampled_from(_EVENTS))
    def server(self, event: Any) -> None:
        self.watch.receive(event)

    @rule(action=st.sampled_from(_ACTIONS))
    def user(self, action: Callable[[Conversation], Any]) -> None:
        self.watch.act(action)

    @rule(item=st.sampled_from(["item_1", "item_2"]), heard=st.integers(-5, 100))
    def playback(self, item: str, heard: int) -> None:
        self.watch.scene.heard[item, 0] = heard

    @rule(event=st.sampled_from(_EVENTS), data=st.data())
    def broken(self, event: Any, data: st.DataObject) -> None:
        """A message whose ids are somebody else's."""
        wire = json.loads(codec.encode(event))
        for key in ("item_id", "response_id", "previous_item_id"):
            if key in wire:
                wire[key] = data.draw(st.sampled_from(["", "item_1", "resp_2", "user_1", "x" * 50]))
        self.watch.receive(codec.decode_server(json.dumps(wire)))

    @invariant()
    def nothing_hangs(self) -> None:
        if hasattr(self, "watch"):
            assert self.watch.scene.it.gate.next() is None  # nothing that may leave is held back


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# --- with a server that keeps the rules -------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["say", "ask", "cancel", "vad", "apart", "step", "step", "step"]), max_size=40))
@settings(max_examples=150, deadline=None)
def test_with_a_busy_server_every_request_is_answered_or_told(steps: list[str]) -> None:
    """Commands and messages cross: the server refuses a second answer; in the end nothing is left hanging."""
    server, scene = BusyServer(), Scene()
    for step in [*steps, *["step"] * 200]:
        if step == "step":
            if not server.speak(scene):
                server.hear(scene.sent())
        elif step == "vad":
            server.begin(None)
        elif step == "cancel":
            scene.it.cancel()
        elif step == "apart":
            scene.it.ask({"conversation": "none"})
        else:
            scene.it.say("x") if step == "say" else scene.it.ask()
    assert not scene.it.gate.busy
    assert scene.it.gate.waiting == 0
    assert server.active is None
    assert not server.twice_refused


class BusyServer:
    """Knows one rule: at most one answer in the conversation at a time."""

    def __init__(self) -> None:
        self.out: list[tuple[str, dict[str, Any]]] = []
        self.active: str | None = None
        self.count = 0
        self.refusals: Counter[str] = Counter()

    @property
    def twice_refused(self) -> list[str]:
        return [each for each, count in self.refusals.items() if count > 2]

    def begin(self, request: ev.ResponseCreate | None) -> None:
        apart = request is not None and (request.response or {}).get("conversation") == "none"
        if self.active and not apart:
            if request is not None:
                self.refusals[request.event_id or ""] += 1
                message = f"Conversation already has an active response in progress: {self.active}."
                self.out.append(("error", {"error": {"code": BUSY, "message": message, "event_id": request.event_id}}))
            return
        self.count += 1
        name = f"resp_{self.count}"
        metadata = (request.response or {}).get("metadata") if request else None
        self.out.append(("response.created", {"response": {"id": name, "metadata": metadata}}))
        if apart:
            self.out.append(("response.done", {"response": {"id": name, "status": "completed"}}))
        else:
            self.active = name

    def speak(self, scene: Scene) -> bool:
        """Say one thing; end the running answer when there is nothing else to say."""
        if self.out:
            kind, fields = self.out.pop(0)
            scene.get(kind, **fields)
            return True
        if self.active and not scene.it.commands:
            self.out.append(("response.done", {"response": {"id": self.active, "status": "completed"}}))
            self.active = None
            return True
        return False

    def hear(self, commands: list[ev.ClientEvent]) -> None:
        for command in commands:
            if isinstance(command, ev.ResponseCreate):
                self.begin(command)
            elif isinstance(command, ev.ResponseCancel):
                if self.active == command.response_id:
                    self.out.append(("response.done", {"response": {"id": self.active, "status": "cancelled"}}))
                    self.active = None
                else:
                    error = {"code": "response_cancel_not_active", "message": "no", "event_id": command.event_id}
                    self.out.append(("error", {"error": error}))
