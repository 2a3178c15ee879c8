"""The client's conversation and the server's, wired to each other in memory, under every order and every cut.

Frames travel as bytes through two queues; hypothesis decides who acts and how much of either queue is delivered, so
requests cross answers in every way that a network allows.
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from realtime_client import updates as up
from realtime_client.errors import UsageError
from realtime_client.protocol import events as ev
from realtime_client.protocol.codec import decode_client, decode_server, encode
from realtime_client.protocol.conversation import Conversation
from realtime_client.protocol.server.conversation import ServerConversation, ServerLimits
from realtime_client.protocol.server.work import StartResponse, StopResponse, Transcribe

# Races that no client can avoid: its request crossed a message of the server.
RACES = {"response_cancel_not_active", "conversation_already_has_active_response", "item_delete_invalid_item_id"}
AUDIO = bytes(48 * 120)


class Wire:
    """Both ends, the frames between them, and a record of what either said."""

    def __init__(self, vad: dict[str, Any] | None, heard_share: float) -> None:
        ids, own_ids = itertools.count(1), itertools.count(1)
        self.received_bytes: dict[tuple[str, int], int] = {}
        self.client = Conversation(new_id=lambda kind: f"{kind}_c{next(own_ids)}", heard_ms=self._heard)
        self.server = ServerConversation(
            model="demo", new_id=lambda kind: f"{kind}_s{next(ids)}", limits=ServerLimits(max_item_audio_bytes=60_000)
        )
        self.heard_share = heard_share
        self.up: deque[bytes] = deque()
        self.down: deque[bytes] = deque()
        self.updates: list[up.Update] = []
        self.said: list[ev.ServerEvent] = []
        self.listening: list[Transcribe] = []
        self.running: list[str] = []
        self.answered: set[str] = set()
        self._from_server(self.server.start())
        self.deliver_all()
        self.client.update_session(
            {"type": "realtime", "audio": {"input": {"turn_detection": vad, "transcription": {}}}}
        )
        self._from_client()
        self.deliver_all()

    def _heard(self, item_id: str, content_index: int) -> int | None:
        """What playback would say: a share of what was received, rounded up so that it may also be all."""
        if self.heard_share < 0:
            return None
        return round(self.received_bytes.get((item_id, content_index), 0) / 48 * self.heard_share)

    # --- frames ---

    def _from_client(self, happened: list[up.Update] | None = None) -> None:
        self._saw(happened or [])
        self.up.extend(encode(command) for command in self.client.take_commands())

    def _from_server(self, out: list[Any]) -> None:
        for step in out:
            if isinstance(step, ev.ServerEvent):
                self.said.append(step)
                self.down.append(encode(step))
            elif isinstance(step, StartResponse):
                self.running.append(step.response_id)
            elif isinstance(step, StopResponse):
                self.running.remove(step.response_id)
            elif isinstance(step, Transcribe):
                self.listening.append(step)

    def _saw(self, happened: list[up.Update]) -> None:
        for update in happened:
            if isinstance(update, up.AudioDelta):
                part = (update.item_id, update.content_index)
                self.received_bytes[part] = self.received_bytes.get(part, 0) + len(update.audio)
            self.updates.append(update)

    def deliver_up(self, count: int) -> None:
        for _ in range(min(count, len(self.up))):
            event = decode_client(self.up.popleft())
            assert isinstance(event, ev.ClientEvent), event
            self._from_server(self.server.receive(event))

    def deliver_down(self, count: int) -> None:
        for _ in range(min(count, len(self.down))):
            event = decode_server(self.down.popleft())
            assert isinstance(event, ev.ServerEvent), event
            self._from_client(self.client.receive(event))

    def deliver_all(self) -> None:
        while self.up or self.down:
            self.deliver_up(len(self.up))
            self.deliver_down(len(self.down))

    # --- who acts ---

    def act(self, what: str, number: int) -> None:
        getattr(self, f"do_{what}")(number)

    do_up = deliver_up
    do_down = deliver_down

    def do_say(self, number: int) -> None:
        self._from_client(self.client.say("hello", respond=number % 3 > 0)[1])

    def do_ask(self, number: int) -> None:
        try:
            self.client.ask({"conversation": "none", "input": []} if number % 2 else None)
        except UsageError:
            assert self.client.gate.waiting == 64
        self._from_client()

    def do_cancel(self, _number: int) -> None:
        self._from_client(self.client.cancel()[1])

    def do_append(self, _number: int) -> None:
        self.client.appended(len(AUDIO))
        self.up.append(encode(ev.InputAudioBufferAppend(audio=AUDIO)))

    def do_commit(self, number: int) -> None:
        if number % 4 == 0:
            self.client.clear_input()
        elif self.server.turn_detection is None:
            try:
                self.client.commit()
            except UsageError:
                return
        self._from_client()

    def do_tool(self, _number: int) -> None:
        outside = {u.response_id for u in self.updates if isinstance(u, up.ResponseStarted) and u.out_of_band}
        called = [u for u in self.updates if isinstance(u, up.ToolCall) and u.response_id not in outside]
        called = [u for u in called if u.call_id not in self.answered]
        for call in called[:1]:
            self.answered.add(call.call_id)
            self._from_client(self.client.tool_result(call.call_id, "sunny")[1])

    def do_speech(self, number: int) -> None:
        at_ms = self.server.input_ms - 60 * number
        self._from_server(self.server.speech_started(at_ms) if number % 2 else self.server.speech_stopped(at_ms))

    def do_heard(self, number: int) -> None:
        if self.listening:
            work = self.listening.pop(number % len(self.listening))
            self._from_server(self.server.heard(work.item_id, work.content_index, f"words {number}"))

    def do_produce(self, number: int) -> None:
        if self.running:
            response_id = self.running[number % len(self.running)]
            self._from_server(self.server.say(response_id, f"word{number} ", AUDIO))

    def do_call(self, number: int) -> None:
        if self.running:
            response_id = self.running[number % len(self.running)]
            self._from_server(self.server.call(response_id, "weather", '{"city": "Paris"}'))

    def do_finish(self, number: int) -> None:
        if self.running:
            response_id = self.running.pop(number % len(self.running))
            self._from_server(self.server.finish(response_id))

    def settle(self) -> None:
        """Deliver and finish until nobody has anything left to say."""
        for _ in range(400):
            self.deliver_all()
            if not self.running and not self.listening:
                return
            self.do_heard(0)
            self.do_finish(0)
        raise AssertionError("it does not settle")


ACTIONS = ("say ask cancel append commit tool speech heard " + "produce " * 3 + "call finish " + "up down " * 2).split()
scripts = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 5)), max_size=30)


def long_script(seed: int) -> list[tuple[str, int]]:
    """Return a script that gets deep into a conversation; hypothesis by itself prefers short and uniform ones."""
    chance = random.Random(seed)
    return [(chance.choice(ACTIONS), chance.randrange(6)) for _ in range(chance.randrange(20, 120))]


vads: st.SearchStrategy[Any] = st.sampled_from(
    [None, {"type": "server_vad"}, {"type": "server_vad", "create_response": False, "interrupt_response": False}]
)


def _check_errors(wire: Wire) -> None:
    codes = [event.error.code for event in wire.said if isinstance(event, ev.Error)]
    assert set(codes) <= RACES, [e.error for e in wire.said if isinstance(e, ev.Error)]


def _check_answers(wire: Wire) -> None:
    """Each answer starts once and ends once for the observer, and nothing of it comes before or after."""
    state: dict[str, str] = {}
    for update in wire.updates:
        if isinstance(update, up.ResponseStarted):
            assert update.response_id not in state
            state[update.response_id] = "runs"
        elif isinstance(update, up.ResponseDone):
            assert state[update.response_id] in {"runs", "cut"}
            state[update.response_id] = "done"
        elif isinstance(update, up.AudioDelta | up.TextDelta):
            assert state[update.response_id] == "runs", "late output of a cut answer came through"
        elif isinstance(update, up.Interrupted) and update.response_id and state[update.response_id] == "runs":
            assert update.heard_ms <= update.received_ms
            state[update.response_id] = "cut"
    assert set(state.values()) <= {"done"}
    created = [e.response.id for e in wire.said if isinstance(e, ev.ResponseCreated)]
    assert sorted(state) == sorted(created)


def _check_apart(wire: Wire) -> None:
    """Answers outside the conversation are told apart, and their metadata is the user's own."""
    outside = {e.response.id for e in wire.said if isinstance(e, ev.ResponseCreated) and not e.response.conversation_id}
    seen = {u.response_id for u in wire.updates if isinstance(u, up.ResponseStarted) and u.out_of_band}
    assert seen == outside
    assert all(u.metadata is None for u in wire.updates if isinstance(u, up.ResponseStarted))


def _check_usage(wire: Wire) -> None:
    done = [e.response.usage or {} for e in wire.said if isinstance(e, ev.ResponseDone)]
    assert wire.client.usage.total_tokens == sum(u["total_tokens"] for u in done)
    assert wire.client.usage.cached == sum(u["input_token_details"]["cached_tokens"] for u in done)
    assert wire.client.usage.cached <= wire.client.usage.input_tokens


def _check_transcripts(wire: Wire) -> None:
    told = {u.item_id: u.text for u in wire.updates if isinstance(u, up.UserTranscript)}
    assert told == {e.item_id: e.transcript for e in wire.said if isinstance(e, ev.InputTranscriptionCompleted)}


FEW = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
shares = st.sampled_from([-1.0, 0.0, 0.4, 1.0])


def _hold(script: list[tuple[str, int]], vad: dict[str, Any] | None, heard_share: float) -> None:
    """Hold a conversation by the script, let it settle, and check what both ends made of it."""
    wire = Wire(vad, heard_share)
    for what, number in script:
        wire.act(what, number)
    wire.settle()
    _check_errors(wire)
    _check_answers(wire)
    _check_apart(wire)
    _check_usage(wire)
    _check_transcripts(wire)
    assert list(wire.client.items) == [entry.id for entry in wire.server.items]
    assert not wire.client.gate.busy, "a request is still waited for"
    assert not wire.client.gate.waiting
    assert not any(isinstance(u, up.Malformed | up.Unknown) for u in wire.updates)


@FEW
@given(scripts, vads, shares)
def test_both_ends_agree_under_every_short_order(script, vad, heard_share):
    _hold(script, vad, heard_share)


@settings(FEW, max_examples=300)
@given(st.integers(0, 2**32), vads, shares)
def test_both_ends_agree_in_long_conversations(seed, vad, heard_share):
    _hold(long_script(seed), vad, heard_share)


def test_a_refused_request_is_asked_again():
    """The server starts an answer by itself while a request is on its way."""
    wire = Wire({"type": "server_vad"}, -1.0)
    wire.do_append(0)
    wire.do_ask(0)
    wire.deliver_up(1)
    wire.do_speech(1)
    wire.do_append(0)
    wire.up.rotate(1)  # the second append overtakes the request
    wire.deliver_up(1)
    wire.do_speech(0)
    wire.settle()
    refused = [u for u in wire.updates if isinstance(u, up.Failure)]
    assert [u.code for u in refused] == ["conversation_already_has_active_response"]
    assert refused[0].benign
    assert len([u for u in wire.updates if isinstance(u, up.ResponseDone)]) == 2
