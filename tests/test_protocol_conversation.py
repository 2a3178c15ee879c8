"""The client's side of a conversation: each rule on its own, then every order and every cut."""

from __future__ import annotations

import base64
import itertools
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from realtime_client import updates as up
from realtime_client.errors import UsageError
from realtime_client.protocol import codec, items
from realtime_client.protocol import conversation as conversation_module
from realtime_client.protocol import events as ev
from realtime_client.protocol.answers import plan_cut
from realtime_client.protocol.conversation import Conversation, random_id
from realtime_client.protocol.gate import ResponseGate
from realtime_client.protocol.order import ItemOrder
from realtime_client.protocol.usage import read_usage

BUSY = "conversation_already_has_active_response"
MS = 48  # bytes of a millisecond of PCM at 24 kHz


class Scene:
    """A conversation with counted ids, and the server's messages in few words."""

    def __init__(self, **options: Any) -> None:
        ids = itertools.count(1)
        self.now_s = 100.0
        self.heard: dict[tuple[str, int], int] | None = None
        self.it = Conversation(
            new_id=lambda prefix: f"{prefix}_{next(ids)}",
            heard_ms=lambda item, part: None if self.heard is None else self.heard.get((item, part), 0),
            now_s=lambda: self.now_s,
            **options,
        )

    def get(self, kind: str, **fields: Any) -> list[up.Update]:
        """One message, through the codec as from the wire."""
        event = codec.decode_server(json.dumps({"type": kind, "event_id": "e", **fields}))
        assert isinstance(event, ev.ServerEvent), event
        return self.it.receive(event)

    def sent(self) -> list[ev.ClientEvent]:
        commands = self.it.take_commands()
        for command in commands:
            self.it.left(command)
        return commands

    def later(self, seconds: float) -> list[up.Update]:
        self.now_s += seconds
        return self.it.tick()

    def kinds(self) -> list[str]:
        return [event.type for event in self.sent()]

    def session(self, **session: Any) -> list[up.Update]:
        return self.get("session.updated", session={"type": "realtime", **session})

    def created(self, response: str = "resp_1", **more: Any) -> list[up.Update]:
        return self.get("response.created", response={"id": response, "status": "in_progress", **more})

    def done(self, response: str = "resp_1", status: str = "completed", **more: Any) -> list[up.Update]:
        return self.get("response.done", response={"id": response, "status": status, "output": [], **more})

    def part(
        self, kind: str, response: str = "resp_1", item: str = "item_a", at: tuple[int, int] = (0, 0), **more: Any
    ):
        where = {"response_id": response, "item_id": item, "output_index": at[0], "content_index": at[1]}
        return self.get(f"response.{kind}", **where, **more)

    def text(self, delta: str, **where: Any) -> list[up.Update]:
        return self.part("output_text.delta", delta=delta, **where)

    def audio(self, ms: float, **where: Any) -> list[up.Update]:
        return self.part("output_audio.delta", delta=base64.b64encode(bytes(int(ms * MS))).decode(), **where)

    def call(self, call_id: str, *, response: str = "resp_1", status: str | None = "completed", **more: Any):
        item = {"id": f"item_{call_id}", "type": "function_call", "status": status, "call_id": call_id, "name": "add"}
        item |= {"arguments": "{}", **more}
        return self.get("response.output_item.done", response_id=response, output_index=0, item=item)

    def errors(self, code: str | None, event_id: str | None = None, message: str = "no") -> list[up.Update]:
        error = {"type": "invalid_request_error", "code": code, "message": message, "event_id": event_id}
        return self.get("error", error=error)

    def error(self, code: str | None, event_id: str | None = None, message: str = "no") -> up.Failure:
        (failure,) = (u for u in self.errors(code, event_id, message) if isinstance(u, up.Failure))
        return failure


@pytest.fixture
def scene() -> Scene:
    return Scene()


def only(updates: list[up.Update], kind: type[up.Update]) -> Any:
    (update,) = [u for u in updates if type(u) is kind]
    return update


# --- one answer at a time ---------------------------------------------------------------------------------------------


def test_requests_wait_behind_the_running_answer(scene: Scene) -> None:
    scene.it.ask({"instructions": "one"})
    scene.it.ask({"instructions": "two"})
    (first,) = scene.sent()
    assert first == ev.ResponseCreate(event_id="event_1", response={"instructions": "one"})
    scene.created()
    scene.text("hello")
    assert scene.sent() == []
    scene.done()
    (second,) = scene.sent()
    assert second == ev.ResponseCreate(event_id="event_2", response={"instructions": "two"})
    scene.created("resp_2")
    scene.done("resp_2")
    assert scene.sent() == []
    assert not scene.it.gate.busy


def test_every_command_carries_an_event_id(scene: Scene) -> None:
    scene.it.say("hello")
    scene.it.appended(100 * MS)
    scene.it.commit()
    scene.it.clear_input()
    scene.it.update_session({"type": "realtime"})
    scene.it.approve("req_1", approve=True)
    scene.created()
    scene.it.cancel()
    commands = scene.sent()
    assert len(commands) == 7
    assert all(command.event_id for command in commands)


@pytest.mark.parametrize("named", [True, False], ids=["event_id", "null"])
@pytest.mark.parametrize("seen", [True, False], ids=["created seen", "created not seen"])
def test_a_refused_request_waits_and_is_sent_once_more(scene: Scene, named: bool, seen: bool) -> None:
    request = scene.it.ask()
    scene.sent()
    if seen:  # the server's own voice detection was quicker
        scene.get("input_audio_buffer.committed", item_id="item_u")
        scene.created("resp_vad")
    message = "Conversation already has an active response in progress: resp_vad. Wait until it is finished."
    failure = scene.error(BUSY, request if named else None, message)
    assert failure.benign
    assert failure.event_id == request
    assert not failure.fatal
    assert scene.sent() == []
    scene.done("resp_vad")
    (again,) = scene.sent()
    assert again == ev.ResponseCreate(event_id=request)
    failure = scene.error(BUSY, request if named else None, message.replace("resp_vad", "resp_x"))
    assert not failure.benign
    assert failure.event_id == request
    scene.done("resp_x")
    assert scene.sent() == []


def test_a_twice_refused_request_does_not_stop_the_next(scene: Scene) -> None:
    first = scene.it.ask({"instructions": "one"})
    scene.it.ask({"instructions": "two"})
    scene.sent()
    scene.error(BUSY, first, "busy with resp_x.")
    scene.done("resp_x")
    scene.sent()
    scene.error(BUSY, first, "busy with resp_y.")
    assert scene.sent() == []  # the server says that it is busy
    scene.done("resp_y")
    (second,) = scene.sent()
    assert second.response == {"instructions": "two"}


def test_the_error_names_an_answer_that_has_ended_already(scene: Scene) -> None:
    scene.created("resp_vad")
    scene.done("resp_vad")
    request = scene.it.ask()
    scene.sent()
    assert scene.error(BUSY, request, "active response: resp_vad").benign
    (again,) = scene.sent()
    assert again.event_id == request


def test_an_error_of_something_else_leaves_the_request_alone(scene: Scene) -> None:
    request = scene.it.ask()
    scene.sent()
    assert not scene.error("invalid_value", "event_other").benign
    assert scene.it.gate.busy
    assert not scene.error("invalid_value", request).benign
    assert not scene.it.gate.busy


def test_a_refused_request_lets_the_next_one_go(scene: Scene) -> None:
    first = scene.it.ask({"instructions": "one"})
    scene.it.ask({"instructions": "two"})
    scene.sent()
    scene.error("invalid_value", first)
    assert [command.response for command in scene.sent()] == [{"instructions": "two"}]


def test_the_servers_own_answers_hold_requests_back(scene: Scene) -> None:
    scene.created("resp_vad")
    scene.it.ask()
    assert scene.sent() == []
    scene.done("resp_vad")
    assert scene.kinds() == ["response.create"]


def test_too_many_requests_are_an_error(scene: Scene) -> None:
    scene.created()
    for _ in range(64):
        scene.it.ask({"instructions": "x"})
    with pytest.raises(UsageError, match="64 requests"):
        scene.it.ask()


def test_a_start_that_is_told_twice_does_not_block(scene: Scene) -> None:
    scene.created()
    scene.done()
    scene.created()
    assert not scene.it.gate.busy
    assert scene.done() == []


@pytest.mark.parametrize("name", ["", "resp_1"], ids=["none", "always the same"])
def test_servers_with_poor_response_ids(scene: Scene, name: str) -> None:
    for _ in range(3):
        scene.it.ask()
        assert scene.kinds() == ["response.create"]
        scene.created(name)
        assert only(scene.text("x", response=name), up.TextDelta)
        assert only(scene.done(name), up.ResponseDone).text == "x"


def test_typed_messages_share_a_request_that_waits(scene: Scene) -> None:
    scene.it.say("one")
    scene.created()
    scene.sent()
    scene.it.say("two")
    scene.it.say("three")
    assert scene.kinds() == ["response.cancel", "conversation.item.create", "conversation.item.create"]
    scene.done(status="cancelled")
    assert scene.kinds() == ["response.create"]
    scene.created("resp_2")
    scene.done("resp_2")
    assert scene.sent() == []


def test_send_keeps_the_callers_event_ids(scene: Scene) -> None:
    scene.it.send(ev.ResponseCreate(event_id="mine"))
    scene.it.send(ev.ConversationItemCreate(event_id="too", item=items.user_text("x"), previous_item_id="root"))
    assert [command.event_id for command in scene.sent()] == ["mine", "too"]
    assert scene.error("invalid_value", "mine").event_id == "mine"
    assert not scene.it.gate.busy


# --- outside the conversation -----------------------------------------------------------------------------------------


def test_answers_apart_run_in_parallel(scene: Scene) -> None:
    scene.it.ask()
    scene.created("resp_1")
    scene.sent()
    scene.it.ask({"conversation": "none", "metadata": {"topic": "weather"}, "input": []})
    (apart,) = scene.sent()
    assert apart.response["conversation"] == "none"
    assert apart.response["metadata"]["topic"] == "weather"
    started = only(scene.created("resp_2", metadata=apart.response["metadata"]), up.ResponseStarted)
    assert started.out_of_band
    assert started.metadata == {"topic": "weather"}  # our own tag is nobody's business
    scene.text("in", response="resp_1")
    scene.text("out", response="resp_2", item="item_b")
    usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    done = only(scene.done("resp_2", metadata=apart.response["metadata"], usage=usage), up.ResponseDone)
    assert (done.out_of_band, done.text, done.metadata) == (True, "out", {"topic": "weather"})
    assert scene.it.gate.active_id == "resp_1"
    done = only(scene.done("resp_1", usage=usage), up.ResponseDone)
    assert (done.out_of_band, done.text, done.metadata) == (False, "in", None)
    assert scene.it.usage.total_tokens == 14


def test_two_apart_at_once_and_none_is_cut_or_cancelled(scene: Scene) -> None:
    scene.heard = {}
    tags = []
    for n in range(2):
        scene.it.ask({"conversation": "none"})
        (apart,) = scene.sent()
        tags.append(apart.response["metadata"])
        assert scene.it.gate.active_id is None
        assert only(scene.created(f"resp_{n}", metadata=tags[n]), up.ResponseStarted).metadata is None
        scene.audio(500, response=f"resp_{n}", item=f"item_{n}")
    assert tags[0] != tags[1]
    scene.done("resp_0")
    assert scene.it.cancel() == (False, [])
    scene.it.say("hello")
    assert scene.kinds() == ["conversation.item.create", "response.create"]
    scene.get("input_audio_buffer.speech_started", item_id="item_u", audio_start_ms=0)
    assert scene.sent() == []
    assert only(scene.audio(10, response="resp_1", item="item_1"), up.AudioDelta)


def test_a_refused_request_apart_is_forgotten(scene: Scene) -> None:
    request = scene.it.ask({"conversation": "none"})
    (apart,) = scene.sent()
    assert not scene.error("invalid_value", request).benign
    started = only(scene.created("resp_1", metadata=apart.response["metadata"]), up.ResponseStarted)
    assert not started.out_of_band


def test_a_strangers_metadata_is_kept(scene: Scene) -> None:
    started = only(scene.created(metadata={"a": "b"}), up.ResponseStarted)
    assert (started.out_of_band, started.metadata) == (False, {"a": "b"})


# --- cancelling -------------------------------------------------------------------------------------------------------


def test_cancel_and_the_race_with_the_end(scene: Scene) -> None:
    assert scene.it.cancel() == (False, [])
    assert scene.sent() == []
    scene.it.ask()
    scene.created()
    scene.sent()
    scene.text("one")
    running, happened = scene.it.cancel()
    assert running
    assert only(happened, up.Interrupted).cause == "cancel"
    (cancel,) = scene.sent()
    assert cancel == ev.ResponseCancel(response_id="resp_1", event_id=cancel.event_id)
    assert scene.it.cancel() == (True, [])  # twice changes nothing
    assert scene.sent() == []
    assert scene.error("response_cancel_not_active", cancel.event_id).benign
    scene.done(status="completed")
    assert scene.it.cancel() == (False, [])


def test_cancel_before_the_answer_has_begun(scene: Scene) -> None:
    scene.it.ask()
    scene.sent()
    assert scene.it.cancel()[0]
    assert not scene.it.cancel()[0]
    assert scene.sent() == []
    scene.created()
    assert scene.kinds() == ["response.cancel"]
    assert scene.text("late") == []
    scene.done(status="cancelled")
    scene.it.ask()
    assert scene.kinds() == ["response.create"]
    scene.created("resp_2")
    assert scene.sent() == []
    assert only(scene.text("now", response="resp_2"), up.TextDelta).text == "now"


def test_a_cancelled_request_that_is_refused_cancels_nothing_else(scene: Scene) -> None:
    request = scene.it.ask()
    scene.sent()
    scene.it.say("instead")
    scene.sent()
    scene.error("invalid_value", request)
    assert scene.kinds() == ["response.create"]
    scene.created("resp_2")
    assert scene.sent() == []  # the new answer is wanted


def test_a_cancelled_request_is_not_sent_again(scene: Scene) -> None:
    request = scene.it.ask()
    scene.sent()
    scene.created("resp_vad")
    scene.it.cancel()
    assert scene.kinds() == ["response.cancel"]
    assert scene.error(BUSY, request).benign
    scene.done("resp_vad", status="cancelled")
    assert scene.sent() == []


def test_cancel_drops_what_waits(scene: Scene) -> None:
    scene.it.ask()
    scene.it.ask()
    scene.created()
    scene.sent()
    scene.it.cancel()
    scene.done(status="cancelled")
    assert scene.kinds() == ["response.cancel"]


def test_late_deltas_of_a_cut_answer_are_dropped(scene: Scene) -> None:
    scene.created()
    scene.audio(100)
    scene.it.cancel()
    assert scene.audio(100) == []
    assert scene.text("late") == []
    assert scene.part("output_audio_transcript.delta", delta="late") == []
    assert only(scene.part("output_audio.done"), up.AudioDone)
    assert only(scene.done(status="cancelled", status_details={"reason": "client_cancelled"}), up.ResponseDone)
    assert scene.audio(100) == []  # even after its end
    assert only(scene.audio(100, response="resp_2"), up.AudioDelta)


def test_typed_text_interrupts(scene: Scene) -> None:
    scene.heard = {("item_a", 0): 300}
    scene.created()
    scene.audio(1000)
    item_id, happened = scene.it.say("stop")
    assert [type(u) for u in happened] == [up.Interrupted, up.ItemAdded]
    assert happened[0].heard_ms == 300
    assert (happened[1].item_id, happened[1].local, happened[1].text) == (item_id, True, "stop")
    kinds = ["response.cancel", "conversation.item.truncate", "conversation.item.create"]
    assert scene.kinds() == kinds
    scene.done(status="cancelled")
    assert scene.kinds() == ["response.create"]


def test_text_without_a_wish_for_an_answer_interrupts_nothing(scene: Scene) -> None:
    scene.created()
    scene.audio(100)
    scene.it.say("by the way", respond=False)
    assert scene.kinds() == ["conversation.item.create"]
    assert only(scene.audio(100), up.AudioDelta)


# --- speech -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("detection", "cancels"),
    [
        ({"type": "server_vad"}, False),
        ({"type": "server_vad", "interrupt_response": True}, False),
        ({"type": "server_vad", "interrupt_response": None}, False),
        ({"type": "semantic_vad", "interrupt_response": False}, True),
        (None, True),
    ],
)
@pytest.mark.parametrize("beta", [False, True])
def test_who_cancels_on_speech(scene: Scene, detection: Any, cancels: bool, beta: bool) -> None:
    if beta:
        scene.session(turn_detection=detection)
    else:
        scene.session(audio={"input": {"turn_detection": detection}})
    scene.heard = {("item_a", 0): 40}
    scene.created()
    scene.audio(100)
    started, cut = scene.get("input_audio_buffer.speech_started", item_id="item_u", audio_start_ms=900)
    assert started == up.SpeechStarted(item_id="item_u", at_ms=900)
    assert (cut.cause, cut.heard_ms, cut.received_ms) == ("speech", 40, 100)
    assert scene.kinds() == ["response.cancel"] * cancels + ["conversation.item.truncate"]
    assert scene.audio(100) == []


def test_speech_may_leave_the_answer_alone() -> None:
    scene = Scene(interrupt_on_speech=False)
    scene.created()
    scene.audio(100)
    assert len(scene.get("input_audio_buffer.speech_started", item_id="item_u", audio_start_ms=0)) == 1
    assert scene.sent() == []


def test_speech_stopped_and_idle(scene: Scene) -> None:
    assert scene.get("input_audio_buffer.speech_stopped", item_id="i", audio_end_ms=7) == [
        up.SpeechStopped(item_id="i", at_ms=7)
    ]
    assert scene.get("input_audio_buffer.timeout_triggered", item_id="i", audio_start_ms=1, audio_end_ms=2) == [
        up.InputTimedOut(item_id="i", start_ms=1, end_ms=2)
    ]
    assert scene.get("input_audio_buffer.cleared") == []


# --- truncation -------------------------------------------------------------------------------------------------------


def truncations(scene: Scene) -> list[tuple[str, str, int | None]]:
    return [
        (type(c).__name__, c.item_id, getattr(c, "audio_end_ms", None))
        for c in scene.sent()
        if isinstance(c, ev.ConversationItemTruncate | ev.ConversationItemDelete)
    ]


@pytest.mark.parametrize("over", [False, True], ids=["running", "done"])
@pytest.mark.parametrize(
    ("received", "heard", "running", "done"),
    [
        (1000, 300, 300, 300),
        (1000, 57_340, 1000, None),  # never beyond what was received
        (1000, 1000, 1000, None),
        (1000, 0, "delete", "delete"),
        (1000, -50, "delete", "delete"),
        (0.5, 5, "delete", "delete"),  # less than a millisecond cannot be truncated to anything
        (999.98, 999, 999, None),
    ],
)
def test_truncation_is_clamped(
    scene: Scene, *, received: float, heard: int, running: Any, done: Any, over: bool
) -> None:
    scene.heard = {("item_a", 0): heard}
    scene.created()
    scene.audio(received)
    if over:
        scene.done()
    scene.it.cancel()
    expected = done if over else running
    if expected is None:
        assert truncations(scene) == []
    elif expected == "delete":
        assert truncations(scene) == [("ConversationItemDelete", "item_a", None)]
    else:
        assert truncations(scene) == [("ConversationItemTruncate", "item_a", expected)]


def test_the_tail_of_a_finished_answer_is_corrected_once(scene: Scene) -> None:
    scene.heard = {("item_a", 0): 250}
    scene.created()
    scene.audio(1000)
    scene.done()
    scene.it.say("stop")
    assert truncations(scene) == [("ConversationItemTruncate", "item_a", 250)]
    scene.it.say("stop!")
    assert truncations(scene) == []


def test_without_playback_nothing_is_truncated(scene: Scene) -> None:
    scene.created()
    scene.audio(1000)
    _, happened = scene.it.cancel()
    cut = only(happened, up.Interrupted)
    assert (cut.heard_ms, cut.received_ms) == (1000, 1000)
    assert truncations(scene) == []
    scene.done(status="cancelled")
    scene.created("resp_2")
    scene.audio(100, response="resp_2", item="item_b")
    scene.done("resp_2")
    assert scene.it.cancel() == (False, [])


def test_no_audio_received_no_truncation(scene: Scene) -> None:
    scene.heard = {}
    scene.created()
    _, happened = scene.it.cancel()
    assert only(happened, up.Interrupted).received_ms == 0
    assert scene.kinds() == ["response.cancel"]


def test_parts_are_counted_apart(scene: Scene) -> None:
    scene.heard = {("item_a", 0): 100, ("item_a", 1): 30, ("item_b", 0): 0}
    scene.created()
    scene.audio(100, item="item_a", at=(0, 0))
    scene.audio(100, item="item_a", at=(0, 1))
    scene.audio(100, item="item_b", at=(1, 0))
    scene.it.cancel()
    cuts = [c for c in scene.sent() if not isinstance(c, ev.ResponseCancel)]
    assert [(c.type, c.item_id, getattr(c, "content_index", None)) for c in cuts] == [
        ("conversation.item.truncate", "item_a", 0),
        ("conversation.item.truncate", "item_a", 1),
        ("conversation.item.delete", "item_b", None),
    ]


def test_an_item_is_deleted_once_and_only_if_nothing_of_it_was_heard(scene: Scene) -> None:
    scene.heard = {("item_a", 0): 100, ("item_a", 1): 0}
    scene.created()
    for at in ((0, 0), (0, 1)):
        scene.audio(100, item="item_a", at=at)
    for at in ((1, 0), (1, 1)):
        scene.audio(100, item="item_b", at=at)
    scene.done()
    scene.it.cancel()
    assert truncations(scene) == [("ConversationItemDelete", "item_b", None)]


@pytest.mark.parametrize(
    ("wire", "bytes_a_second"), [("audio/pcm", 48_000), ("audio/pcmu", 8000), ("audio/pcma", 8000)]
)
@pytest.mark.parametrize("where", ["session", "response"])
def test_milliseconds_of_every_format(scene: Scene, wire: str, bytes_a_second: int, where: str) -> None:
    node = {"output": {"format": {"type": wire}}}
    scene.heard = {("item_a", 0): 10**9}
    if where == "session":
        scene.session(audio=node)
        scene.created()
    else:
        scene.created(audio=node)
    scene.audio(bytes_a_second * 3 // MS)
    received = bytes_a_second * 3 // MS * MS
    scene.it.cancel()
    ms = received * 1000 // bytes_a_second
    assert truncations(scene) == [("ConversationItemTruncate", "item_a", ms)]
    assert 2990 <= ms <= 3000


@given(
    st.integers(0, 10**7), st.none() | st.integers(-(10**6), 10**6), st.booleans(), st.sampled_from(["pcm16", "ulaw"])
)
def test_a_cut_never_exceeds_what_was_received(size: int, heard: int | None, done: bool, encoding: str) -> None:
    audio = up.AudioFormat(encoding, 24_000 if encoding == "pcm16" else 8000)
    cut = plan_cut(("i", 0), size, heard, audio, done=done)
    assert cut.received_ms <= size / audio.bytes_per_ms
    assert 0 <= cut.heard_ms <= cut.received_ms
    assert cut.action in {"none", "truncate", "delete"}
    if cut.action == "truncate":
        assert cut.heard_ms > 0
    assert (cut.action == "delete") == (heard is not None and cut.heard_ms == 0)


# --- committing by hand -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wire", "bytes_a_ms"), [("audio/pcm", 48), ("audio/pcmu", 8), ("audio/pcma", 8)])
def test_commit_needs_100_ms(scene: Scene, wire: str, bytes_a_ms: int) -> None:
    scene.session(audio={"input": {"format": {"type": wire}}})
    with pytest.raises(UsageError, match="only 0 ms"):
        scene.it.commit()
    scene.it.appended(100 * bytes_a_ms - 1)
    with pytest.raises(UsageError, match="only 99 ms of audio to commit: at least 100 ms"):
        scene.it.commit()
    assert scene.sent() == []
    scene.it.send(ev.InputAudioBufferAppend(audio=b"\0"))
    scene.sent()
    scene.it.commit()
    assert scene.kinds() == ["input_audio_buffer.commit"]
    with pytest.raises(UsageError, match="only 0 ms"):
        scene.it.commit()
    scene.it.appended(100 * bytes_a_ms)
    scene.it.clear_input()
    assert scene.kinds() == ["input_audio_buffer.clear"]
    with pytest.raises(UsageError, match="only 0 ms"):
        scene.it.commit()


# --- a request must never wedge a session -------------------------------------------------------------------------------


def failures(updates: list[up.Update]) -> list[tuple[str, str | None]]:
    return [(u.message, u.event_id) for u in updates if isinstance(u, up.Failure)]


def test_an_error_without_a_name_is_the_likely_refusal(scene: Scene) -> None:
    request = scene.it.ask()
    scene.sent()
    assert scene.errors(None, message="no capacity") == []  # held
    scene.it.ask({"instructions": "next"})
    assert scene.later(1.9) == []
    assert failures(scene.later(0.2)) == [("no capacity", request)]
    assert [command.response for command in scene.sent()] == [{"instructions": "next"}]  # and not the first one again
    assert scene.later(3600) != []


def test_an_error_without_a_name_is_about_something_else_if_the_answer_begins(scene: Scene) -> None:
    request = scene.it.ask()
    scene.sent()
    scene.errors(None, message="one")
    scene.errors("invalid_value", message="two")
    started = scene.created()
    assert failures(started) == [("one", None), ("two", None)]
    assert only(started, up.ResponseStarted).request_id == request
    assert scene.it.due_s is None
    assert scene.later(3600) == []
    assert scene.error(None, message="three").event_id is None  # in an answer it is told at once
    scene.done()
    assert not scene.it.gate.busy


def test_of_several_errors_the_first_is_the_refusal(scene: Scene) -> None:
    request = scene.it.ask()
    scene.sent()
    for n in range(20):  # no more than some are held
        for told in scene.errors(None, message=str(n)):
            assert told.event_id is None
    told = failures(scene.later(2))
    assert told[0] == ("0", request)
    assert {event_id for _, event_id in told[1:]} == {None}


@pytest.mark.parametrize("code", ["session_expired", "response_cancel_not_active"])
def test_what_is_known_to_be_something_else_is_not_held(scene: Scene, code: str) -> None:
    scene.it.ask()
    scene.sent()
    assert scene.error(code).event_id is None
    assert scene.it.due_s == scene.now_s + 30


def test_a_refusal_by_name_frees_what_was_held(scene: Scene) -> None:
    request = scene.it.ask()
    scene.sent()
    scene.errors(None, message="something")
    assert scene.error("invalid_value", request).event_id == request
    assert scene.it.due_s is None


def test_an_end_tells_what_was_held(scene: Scene) -> None:
    scene.it.ask()
    scene.sent()
    scene.errors("insufficient_quota", message="pay first")
    assert failures(scene.it.end()) == [("pay first", None)]
    assert scene.it.end() == []


def test_a_request_that_is_never_answered(scene: Scene) -> None:
    first = scene.it.ask()
    assert scene.it.due_s is None  # not sent yet
    scene.it.ask({"instructions": "two"})
    scene.sent()
    assert scene.it.due_s == scene.now_s + 30
    assert scene.later(29.9) == []
    (told,) = scene.later(0.1)
    assert isinstance(told, up.Failure)
    assert (told.event_id, told.code) == (first, "request_unanswered")
    assert [command.type for command in scene.sent()] == ["response.create"]


def test_an_answer_that_comes_after_all_is_shown(scene: Scene) -> None:
    scene.it.ask()
    scene.sent()
    scene.later(30)
    assert not scene.it.gate.wanted
    scene.created()
    assert scene.sent() == []
    assert only(scene.text("late"), up.TextDelta).text == "late"
    assert only(scene.done(), up.ResponseDone).text == "late"


def test_no_limit_for_answers() -> None:
    scene = Scene(answer_s=0)
    scene.it.ask()
    scene.sent()
    assert scene.it.due_s is None
    assert scene.later(1e6) == []


def test_cancel_always_frees(scene: Scene) -> None:
    scene.it.say("to a server that is silent")
    scene.sent()
    assert scene.it.cancel()[0]
    assert not scene.it.gate.wanted
    scene.it.say("the next")
    assert scene.kinds() == ["conversation.item.create"]  # the first one's fate is waited for, but not for long
    assert scene.later(2) == []  # nobody wants to hear of it
    assert scene.kinds() == ["response.create"]
    scene.created("resp_2")
    assert scene.sent() == []
    assert only(scene.text("now", response="resp_2"), up.TextDelta).text == "now"


def test_cancel_frees_from_a_held_error(scene: Scene) -> None:
    request = scene.it.ask()
    scene.sent()
    scene.errors(None, message="no")
    scene.it.cancel()
    assert failures(scene.later(2)) == [("no", request)]
    assert not scene.it.gate.busy


def test_a_cancelled_answer_that_comes_late_is_cancelled_then(scene: Scene) -> None:
    scene.it.ask()
    scene.sent()
    scene.it.cancel()
    scene.later(2)
    scene.created()
    assert scene.kinds() == ["response.cancel"]
    assert scene.text("late") == []


def test_somebody_elses_busy_error_does_not_ask_twice(scene: Scene) -> None:
    """A proxy that asks for answers of its own: ours was never refused."""
    scene.it.say("hello")
    scene.sent()
    scene.created()
    told = scene.error(BUSY, message="Conversation already has an active response in progress: resp_1.")
    assert (told.event_id, told.benign) == (None, False)
    scene.done()
    assert scene.sent() == []


def test_own_commits_are_not_the_servers(scene: Scene) -> None:
    scene.it.appended(48_000)
    scene.it.commit()
    scene.it.ask()
    scene.sent()
    scene.get("input_audio_buffer.committed", item_id="item_u")
    scene.created()
    assert not scene.error(BUSY).benign
    scene.done()
    assert scene.sent() == []


def test_an_answer_that_is_only_named_is_not_waited_for_without_end(scene: Scene) -> None:
    request = scene.it.ask()
    scene.sent()
    assert scene.error(BUSY, request, "already active: resp_zombie.").benign
    assert scene.later(29) == []
    assert scene.sent() == []
    scene.later(1)
    assert scene.kinds() == ["response.create"]
    assert scene.error(BUSY, request, "already active: resp_zombie.").event_id == request  # twice: told
    scene.it.cancel()
    scene.later(2)
    assert not scene.it.gate.busy


def test_a_busy_server_that_names_nothing_is_asked_again_a_little_later(scene: Scene) -> None:
    request = scene.it.ask()
    scene.sent()
    assert scene.error(BUSY, request, "busy").benign
    assert scene.sent() == []
    scene.later(2)
    assert scene.kinds() == ["response.create"]


def test_a_busy_error_while_nothing_was_asked_holds_nothing_back(scene: Scene) -> None:
    scene.error(BUSY, None, "already active: resp_x.")
    scene.it.ask()
    assert scene.kinds() == ["response.create"]


def test_a_request_behind_an_answer_apart(scene: Scene) -> None:
    scene.it.ask({"conversation": "none"})
    (apart,) = scene.sent()
    assert isinstance(apart, ev.ResponseCreate)
    assert apart.response is not None
    scene.created("resp_apart", metadata=apart.response["metadata"])
    request = scene.it.ask()
    scene.sent()
    scene.error(BUSY, request, "already active: resp_apart.")
    scene.done("resp_apart")
    assert scene.kinds() == ["response.create"]


@pytest.mark.parametrize("how", ["not active", "time"])
def test_a_cancelled_answer_whose_end_never_comes(scene: Scene, how: str) -> None:
    scene.it.ask()
    scene.sent()
    scene.created()
    scene.it.cancel()
    scene.it.ask({"instructions": "next"})
    assert scene.kinds() == ["response.cancel"]
    if how == "time":
        scene.later(2)
    else:
        scene.error("response_cancel_not_active")
    assert [command.type for command in scene.sent()] == ["response.create"]
    assert scene.text("late") == []


@pytest.mark.parametrize("how", ["named", "anonymous", "done"])
def test_a_cancelled_request_that_is_over_cancels_no_later_answer(scene: Scene, how: str) -> None:
    request = scene.it.ask()
    scene.sent()
    scene.it.cancel()
    if how == "done":
        scene.done("resp_never_begun")
    else:
        scene.errors("invalid_value", request if how == "named" else None)
        scene.later(2)
    scene.get("input_audio_buffer.committed", item_id="item_u")
    scene.created("resp_vad")
    assert scene.sent() == []
    assert shown(scene.text("spoken to", response="resp_vad")) == "spoken to"


def test_a_waiter_learns_of_a_cancelled_request(scene: Scene) -> None:
    first, second = scene.it.ask(), scene.it.ask({"instructions": "two"})
    scene.sent()
    told = [u for u in scene.it.cancel()[1] if isinstance(u, up.Failure)]
    assert {(u.event_id, u.code, u.benign) for u in told} == {
        (first, up.REQUEST_CANCELLED, True),
        (second, up.REQUEST_CANCELLED, True),
    }


def test_a_server_that_does_not_answer_by_itself_refuses_nobody(scene: Scene) -> None:
    detection = {"type": "server_vad", "create_response": False}
    scene.session(audio={"input": {"turn_detection": detection}})
    scene.get("input_audio_buffer.speech_stopped", item_id="u", audio_end_ms=5)
    scene.it.ask()
    scene.sent()
    scene.created()
    scene.error(BUSY)
    scene.done()
    assert scene.sent() == []


def test_an_answer_that_nobody_announces(scene: Scene) -> None:
    request = scene.it.ask()
    scene.sent()
    updates = [*scene.text("Hi."), *scene.done()]
    started = only(updates, up.ResponseStarted)
    assert (started.response_id, started.request_id) == ("resp_1", request)
    assert updates[0] is started
    assert only(updates, up.ResponseDone).text == "Hi."
    assert not scene.it.gate.busy


def test_a_stray_word_holds_no_request_back(scene: Scene) -> None:
    """Somebody else's answer, of which neither beginning nor end is told here."""
    (started, _) = scene.text("stray", response="resp_stray")
    assert isinstance(started, up.ResponseStarted)
    assert started.request_id is None
    request = scene.it.ask()
    assert scene.kinds() == ["response.create"]
    assert only(scene.created(), up.ResponseStarted).request_id == request
    scene.done()
    assert not scene.it.gate.busy


def test_a_stray_word_while_one_asks_is_not_waited_for_without_end(scene: Scene) -> None:
    request = scene.it.ask()
    scene.sent()
    scene.text("stray", response="resp_stray")
    assert only(scene.created(), up.ResponseStarted).request_id == request  # the real one takes its place
    scene.done()
    assert not scene.it.gate.busy
    scene.it.ask()
    scene.sent()
    scene.text("stray", response="resp_other")
    scene.it.ask({"instructions": "next"})
    assert scene.sent() == []
    scene.later(30)
    assert scene.kinds() == ["response.create"]


def test_beginnings_without_ids_and_ends(scene: Scene) -> None:
    for _ in range(2):
        request = scene.it.ask()
        scene.sent()
        assert only(scene.get("response.created", response={}), up.ResponseStarted).request_id == request
        scene.it.cancel()
        scene.later(2)
        scene.sent()
    request = scene.it.ask()
    scene.sent()
    assert only(scene.created("resp_1"), up.ResponseStarted).request_id == request
    assert shown(scene.text("Hi.")) == "Hi."
    scene.done()
    assert not scene.it.gate.busy


def test_a_beginning_without_an_id(scene: Scene) -> None:
    scene.it.ask()
    scene.sent()
    updates = scene.get("response.created", response={"status": "in_progress"})
    updates += [*scene.text("Hi.", response="resp_9"), *scene.done("resp_9")]
    ids = {u.response_id for u in updates if isinstance(u, up.ResponseStarted | up.TextDelta | up.ResponseDone)}
    assert len(ids) == 1
    assert not scene.it.gate.busy


def test_items_that_share_a_place_are_two(scene: Scene) -> None:
    updates = scene.created()
    for name, text in (("a", "One"), ("b", "Two"), ("c", "One")):
        item = {"id": name, "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
        updates += scene.get("response.output_item.done", response_id="resp_1", item=item)
    assert only([*updates, *scene.done()], up.ResponseDone).text.split("\n")[:2] == ["One", "Two"]


def test_half_a_character_that_stays_alone(scene: Scene) -> None:
    updates = [*scene.created(), *scene.text("Hi \ud83d"), *scene.done()]
    assert shown(updates) == "Hi \ufffd"
    assert only(updates, up.ResponseDone).text == "Hi \ufffd"


def test_a_message_too_many_changes_nothing(scene: Scene) -> None:
    for n in range(65):
        scene.it.ask({"instructions": str(n)})
    scene.created()
    scene.sent()
    last = scene.it.last_request_id
    for too_many in (lambda: scene.it.say("x"), scene.it.ask):
        with pytest.raises(UsageError, match="64 requests"):
            too_many()
        assert scene.sent() == []
    assert scene.it.last_request_id == last
    assert not scene.it.book.running["resp_1"].cut


# --- one way to an answer's text ----------------------------------------------------------------------------------------


def shown(updates: list[up.Update]) -> str:
    return "".join(u.text for u in updates if isinstance(u, up.TextDelta))


PART = {"type": "output_text", "text": "Good morning."}
MESSAGE = {"id": "item_a", "type": "message", "role": "assistant", "content": [PART]}


@pytest.mark.parametrize("deltas", [[], ["Good"], ["Good", " morning."]])
@pytest.mark.parametrize("where", ["text.done", "content_part.done", "output_item.done", "response.done", "all"])
def test_text_that_deltas_do_not_bring(scene: Scene, deltas: list[str], where: str) -> None:
    updates = scene.created()
    for delta in deltas:
        updates += scene.text(delta)
    if where in ("text.done", "all"):
        updates += scene.part("output_text.done", text="Good morning.")
    if where in ("content_part.done", "all"):
        updates += scene.part("content_part.done", part={**PART, "type": "text"})
    if where in ("output_item.done", "all"):
        updates += scene.get("response.output_item.done", response_id="resp_1", output_index=0, item=MESSAGE)
    updates += scene.done(output=[MESSAGE] if where in ("response.done", "all") else [])
    assert shown(updates) == "Good morning."
    assert only(updates, up.ResponseDone).text == "Good morning."


def test_several_dones_of_one_part_are_pieces(scene: Scene) -> None:
    updates = scene.created()
    for piece, deltas in (("One. ", ["One. "]), ("Two. ", ["Tw"]), ("Three.", [])):
        for delta in deltas:
            updates += scene.text(delta)
        updates += scene.part("output_text.done", text=piece)
    updates += scene.done(output=[{**MESSAGE, "content": [{**PART, "text": "One. Two. Three."}]}])
    assert shown(updates) == "One. Two. Three."
    assert [u.text for u in updates if isinstance(u, up.TextDone)][-1] == "One. Two. Three."
    assert only(updates, up.ResponseDone).text == "One. Two. Three."


def test_numbers_that_the_deltas_lack_do_not_show_a_text_twice(scene: Scene) -> None:
    """Deltas without indices, then the whole output with them: a reasoning item stands in front of the message."""
    updates = scene.created()
    for delta in ("Good ", "morning."):
        updates += scene.get("response.output_text.delta", delta=delta)
    updates += scene.done(output=[{"id": "r", "type": "reasoning"}, {**MESSAGE, "id": "other"}])
    assert shown(updates) == "Good morning."
    assert {u.response_id for u in updates if isinstance(u, up.TextDelta | up.ResponseDone)} == {"resp_1"}


@pytest.mark.parametrize("absent", ["response_id", "item_id", "output_index", "content_index", "all"])
@pytest.mark.parametrize("value", ["absent", None])
def test_a_whole_answer_without(scene: Scene, absent: str, value: str | None) -> None:
    names = ("response_id", "item_id", "output_index", "content_index")
    where = {"response_id": "resp_1", "item_id": "item_a", "output_index": 0, "content_index": 0}
    where |= dict.fromkeys(names if absent == "all" else (absent,), value)
    where = {key: value for key, value in where.items() if value != "absent"}
    updates = scene.created()
    updates += scene.get("response.output_item.added", **where, item={**MESSAGE, "content": []})
    updates += scene.get("response.output_audio.delta", delta="AAAA", **where)
    updates += scene.get("response.output_audio_transcript.delta", delta="Hi", **where)
    updates += scene.get("response.output_audio_transcript.done", transcript="Hi.", **where)
    updates += scene.done()
    assert shown(updates) == "Hi."
    audio = only(updates, up.AudioDelta)
    assert (audio.response_id, audio.item_id, audio.content_index) == ("resp_1", "item_a", 0)
    assert only(updates, up.ResponseDone).text == "Hi."


def test_an_answer_without_any_id(scene: Scene) -> None:
    updates = scene.get("response.created", response={})
    updates += scene.get("response.output_text.delta", delta="Hi")
    updates += scene.get("response.done", response={"status": "completed"})
    assert shown(updates) == only(updates, up.ResponseDone).text == "Hi"
    assert not scene.it.gate.busy


@pytest.mark.parametrize(
    ("deltas", "whole"),
    [
        (["a\ud83d", "\ude00b"], "a\U0001f600b"),
        (["\ud83d", "", "\ude00"], "\U0001f600"),
        (["a\ud83d", "b"], "a\ufffdb"),
        (["a\ude00"], "a\ufffd"),
        (["\ud83d\ud83d", "\ude00"], "\ufffd\U0001f600"),
    ],
)
def test_half_characters(scene: Scene, deltas: list[str], whole: str) -> None:
    scene.created()
    assert shown([u for delta in deltas for u in scene.text(delta)]) == whole
    heard = "conversation.item.input_audio_transcription.delta"
    told = [u.text for delta in deltas for u in scene.get(heard, item_id="u", content_index=0, delta=delta)]
    assert "".join(told) == whole
    where = {"response_id": "resp_1", "item_id": "f", "output_index": 1, "call_id": "c"}
    kind = "response.function_call_arguments.delta"
    assert "".join(u.text for delta in deltas for u in scene.get(kind, delta=delta, **where)) == whole


def test_half_a_character_at_the_end(scene: Scene) -> None:
    scene.created()
    assert shown(scene.text("Hi \ud83d")) == "Hi "
    assert shown(scene.part("output_text.done", text="Hi \U0001f600")) == "\U0001f600"


# --- text and items ---------------------------------------------------------------------------------------------------


def test_several_messages_in_one_answer_are_joined_in_order(scene: Scene) -> None:
    scene.created()
    scene.text("second ", item="item_b", at=(1, 0))
    scene.text("first", item="item_a", at=(0, 0))
    scene.part("output_audio_transcript.delta", item="item_b", at=(1, 1), delta="message")
    scene.text(" message", item="item_a", at=(0, 1))
    scene.part("output_text.done", item="item_a", at=(0, 0), text="First")
    done = only(scene.done(), up.ResponseDone)
    assert done.text == "First message\nsecond message"


def test_the_text_of_an_answer_without_deltas(scene: Scene) -> None:
    output = [
        {"id": "i1", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "one"}]},
        {"id": "i2", "type": "function_call", "call_id": "c", "name": "add", "arguments": "{}"},
        {"id": "i3", "type": "message", "role": "assistant", "content": [{"type": "audio", "transcript": "two"}]},
    ]
    done = only(scene.done(output=output), up.ResponseDone)
    assert (done.text, done.item_ids) == ("one\ntwo", ("i1", "i2", "i3"))


def test_item_ids_from_what_was_seen(scene: Scene) -> None:
    scene.created()
    for n in (0, 0, 1):
        item = {"id": f"item_{n}", "type": "message", "role": "assistant"}
        scene.get("response.output_item.added", response_id="resp_1", output_index=n, item=item)
    assert only(scene.done(), up.ResponseDone).item_ids == ("item_0", "item_1")


@pytest.mark.parametrize("order", list(itertools.permutations("abcd")))
def test_items_stand_in_order_however_they_arrive(order: tuple[str, ...]) -> None:
    before = {"a": None, "b": "a", "c": "b", "d": "c"}
    scene = Scene()
    for name in order:
        item = {"id": name, "type": "message", "role": "user", "content": [{"type": "input_text", "text": name}]}
        scene.get("conversation.item.added", item=item, previous_item_id=before[name])
    for name in reversed(order):  # told again when they are complete
        scene.get("conversation.item.done", item={"id": name, "type": "message"}, previous_item_id=before[name])
    assert list(scene.it.items) == list("abcd")


def test_items_in_between_at_the_front_and_gone(scene: Scene) -> None:
    def place(name: str, before: str | None) -> up.ItemAdded:
        item = {"id": name, "type": "message", "role": "user"}
        return only(scene.get("conversation.item.added", item=item, previous_item_id=before), up.ItemAdded)

    place("a", None)
    place("b", "a")
    assert place("c", "a").previous_item_id == "a"
    assert place("d", "root").previous_item_id is None
    assert list(scene.it.items) == list("dacb")
    scene.get("conversation.item.done", item={"id": "b", "type": "message"}, previous_item_id="a")
    assert list(scene.it.items) == list("dacb")  # nothing new
    assert scene.get("conversation.item.deleted", item_id="c") == [up.ItemDeleted(item_id="c")]
    scene.get("conversation.item.deleted", item_id="nobody")
    assert list(scene.it.items) == list("dab")
    assert scene.it.items.previous("nobody") is None


@given(st.lists(st.tuples(st.sampled_from("abcdefg"), st.none() | st.sampled_from([*"abcdefgh", "root"])), max_size=30))
def test_item_order_holds_each_item_once(places: list[tuple[str, str | None]]) -> None:
    order = ItemOrder(limit=5)
    for item_id, previous in places:
        order.place(item_id, previous)
        ids = list(order)
        assert len(ids) == len(set(ids)) == len(order) <= 5
        assert all(each in order for each in ids)
        assert [order.previous(each) for each in ids] == [None, *ids[:-1]][: len(ids)]
    for item_id in "abcdefgh":
        order.remove(item_id)
    assert list(order) == []


@given(st.permutations(range(8)), st.integers(1, 4))
def test_item_order_is_the_servers_in_any_order_of_arrival(arrival: list[int], branch: int) -> None:
    order = ItemOrder()
    for n in arrival:
        order.place(f"i{n}", f"i{n - 1}" if n else None)
    assert list(order) == [f"i{n}" for n in range(8)]
    order.place("new", f"i{branch}")
    assert list(order).index("new") == branch + 1


def test_own_messages_are_told_once(scene: Scene) -> None:
    item_id, happened = scene.it.say("hello", respond=False)
    assert only(happened, up.ItemAdded).local
    (create,) = scene.sent()
    assert create.item.id == item_id
    wire = json.loads(codec.encode(create))["item"]
    assert scene.get("conversation.item.added", item=wire) == []
    done = only(scene.get("conversation.item.done", item=wire | {"status": "completed"}), up.ItemDone)
    assert (done.item_id, done.role, done.text) == (item_id, "user", "hello")


def test_added_items_are_told_when_the_server_confirms_them(scene: Scene) -> None:
    item_id = scene.it.add_item(items.system_text("be brief"))
    wire = json.loads(codec.encode(scene.sent()[0]))["item"]
    added = only(scene.get("conversation.item.added", item=wire), up.ItemAdded)
    assert (added.item_id, added.role, added.text) == (item_id, "system", "be brief")


def test_said_as_the_assistant(scene: Scene) -> None:
    _, happened = scene.it.say("earlier", respond=False, role="assistant")
    assert only(happened, up.ItemAdded).role == "assistant"
    assert scene.sent()[0].item.content == [items.ContentPart(type="output_text", text="earlier")]


def test_items_without_id_are_nothing(scene: Scene) -> None:
    assert scene.get("conversation.item.added", item={"type": "message"}) == []
    assert scene.get("conversation.item.done", item={"type": "message"}) == []


# --- transcripts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_transcripts_come_when_they_come(scene: Scene, when: str) -> None:
    def transcript() -> list[up.Update]:
        prefix = "conversation.item.input_audio_transcription"
        told = scene.get(f"{prefix}.delta", item_id="item_u", content_index=0, delta="what is")
        usage = {"type": "tokens", "input_tokens": 5, "output_tokens": 2, "total_tokens": 7}
        where = {"item_id": "item_u", "content_index": 0}
        return told + scene.get(f"{prefix}.completed", **where, transcript="what is it", usage=usage)

    scene.get("input_audio_buffer.committed", item_id="item_u", previous_item_id=None)
    told = transcript() if when == "before" else []
    scene.created()
    told += transcript() if when == "during" else []
    scene.text("It is")
    scene.done()
    told += transcript() if when == "after" else []
    assert told == [
        up.UserTranscriptDelta(item_id="item_u", content_index=0, text="what is"),
        up.UserTranscript(item_id="item_u", content_index=0, text="what is it", usage=told[1].usage),
    ]
    assert scene.it.transcription_usage == {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}
    assert scene.it.usage == up.Usage()  # billed apart
    assert scene.sent() == []


def test_failed_transcripts_and_segments(scene: Scene) -> None:
    prefix, where = "conversation.item.input_audio_transcription", {"item_id": "i", "content_index": 0}
    error = {"type": "x", "code": "audio_unintelligible", "message": "no speech"}
    (failed,) = scene.get(f"{prefix}.failed", **where, error=error)
    assert (failed.message, failed.code) == ("no speech", "audio_unintelligible")
    (segment,) = scene.get(f"{prefix}.segment", **where, id="s", text="hi", speaker="A", start=0.5, end=1.5)
    assert (segment.speaker, segment.start_s, segment.end_s) == ("A", 0.5, 1.5)
    scene.get(f"{prefix}.completed", **where, transcript="", usage={"type": "duration", "seconds": 1.5})
    scene.get(f"{prefix}.completed", **where, transcript="", usage={"type": "duration", "seconds": 2})
    assert scene.it.transcription_usage == {"seconds": 3.5}


# --- tools ------------------------------------------------------------------------------------------------------------


def test_a_tool_call_and_its_answer(scene: Scene) -> None:
    scene.created()
    delta = scene.get(
        "response.function_call_arguments.delta",
        response_id="resp_1",
        item_id="item_c1",
        output_index=0,
        call_id="c1",
        delta='{"a',
    )
    assert only(delta, up.ToolCallDelta).text == '{"a'
    call = only(scene.call("c1", arguments='{"a": 1'), up.ToolCall)
    assert call == up.ToolCall(response_id="resp_1", item_id="item_c1", call_id="c1", name="add", arguments='{"a": 1')
    assert scene.call("c1") == []  # told twice, run once
    _, happened = scene.it.tool_result("c1", "2")
    assert only(happened, up.ItemAdded).item_type == "function_call_output"
    assert scene.kinds() == ["conversation.item.create"]  # the calling answer still runs
    assert scene.call("c1") == []
    scene.done()
    assert scene.kinds() == ["response.create"]


@pytest.mark.parametrize("status", ["incomplete", "in_progress", "cancelled", "new"])
def test_only_complete_calls_are_run(scene: Scene, status: str) -> None:
    scene.created()
    assert scene.call("c1", status=status) == []


def test_calls_without_status_are_complete(scene: Scene) -> None:
    assert only(scene.call("c1", status=None), up.ToolCall)


@pytest.mark.parametrize("order", list(itertools.permutations(["c1", "c2", "done"])))
def test_several_calls_one_answer_after_all(order: tuple[str, ...]) -> None:
    scene = Scene()
    scene.created()
    scene.call("c1")
    scene.call("c2")
    for n, step in enumerate(order):
        if step == "done":
            scene.done()
        else:
            scene.it.tool_result(step, "x")
        commands = scene.kinds()
        assert ("response.create" in commands) == (n == 2), (order, n)


def test_a_quick_result_does_not_outrun_the_second_call(scene: Scene) -> None:
    scene.created()
    scene.call("c1")
    scene.it.tool_result("c1", "x")
    scene.call("c2")
    scene.done()
    assert scene.kinds() == ["conversation.item.create"]
    scene.it.tool_result("c2", "y", respond=False)
    assert scene.kinds() == ["conversation.item.create", "response.create"]


def test_a_result_without_a_wish_for_an_answer(scene: Scene) -> None:
    scene.created()
    scene.call("c1")
    scene.done()
    scene.it.tool_result("c1", "x", respond=False)
    assert scene.kinds() == ["conversation.item.create"]
    for call_id in ("unknown", "c1"):
        with pytest.raises(UsageError, match="no call"):
            scene.it.tool_result(call_id, "x")
        assert scene.sent() == []


def test_a_result_after_an_interruption(scene: Scene) -> None:
    scene.created()
    scene.call("c1")
    scene.it.say("never mind")
    scene.done(status="cancelled")
    assert scene.kinds() == ["response.cancel", "conversation.item.create", "response.create"]
    scene.it.tool_result("c1", "x")  # on its way already: the answer that was asked for does not know it
    assert scene.kinds() == ["conversation.item.create"]
    scene.created("resp_2")
    scene.done("resp_2")
    assert scene.kinds() == ["response.create"]


def test_a_result_while_a_request_waits_needs_no_second_one(scene: Scene) -> None:
    scene.created()
    scene.call("c1")
    scene.done()
    scene.created("resp_vad")
    scene.it.ask({"instructions": "x"})
    scene.it.tool_result("c1", "x")
    scene.done("resp_vad")
    assert scene.kinds() == ["conversation.item.create", "response.create"]
    scene.created("resp_3")
    scene.done("resp_3")
    assert scene.sent() == []


# --- remote tools -----------------------------------------------------------------------------------------------------


def mcp_item(scene: Scene, item: str, response: str = "resp_1") -> None:
    wire = {"id": item, "type": "mcp_call", "server_label": "s", "name": "t", "arguments": "{}"}
    scene.get("response.output_item.added", response_id=response, output_index=0, item=wire)


@pytest.mark.parametrize("end", ["completed", "failed"])
def test_the_model_is_asked_to_go_on_after_remote_tools(scene: Scene, end: str) -> None:
    scene.created()
    mcp_item(scene, "m1")
    mcp_item(scene, "m2")
    (progress,) = scene.get("response.mcp_call.in_progress", item_id="m1", output_index=0)
    assert progress == up.Progress(what="response.mcp_call.in_progress", item_id="m1")
    scene.get("response.mcp_call.completed", item_id="m1", output_index=0)
    scene.done()
    assert scene.sent() == []
    scene.get(f"response.mcp_call.{end}", item_id="m2", output_index=1)
    assert scene.kinds() == ["response.create"]
    scene.get(f"response.mcp_call.{end}", item_id="m2", output_index=1)
    assert scene.sent() == []


def test_a_remote_tool_that_is_quick_waits_for_the_others(scene: Scene) -> None:
    scene.created()
    mcp_item(scene, "m1")
    scene.get("response.mcp_call.completed", item_id="m1", output_index=0)
    mcp_item(scene, "m2")
    scene.done()
    assert scene.sent() == []
    scene.get("response.mcp_call.completed", item_id="m2", output_index=1)
    assert scene.kinds() == ["response.create"]


def test_no_answer_is_asked_for_after_an_interrupted_remote_tool(scene: Scene) -> None:
    scene.created()
    mcp_item(scene, "m1")
    scene.it.cancel()
    scene.done(status="cancelled")
    scene.get("response.mcp_call.completed", item_id="m1", output_index=0)
    assert scene.kinds() == ["response.cancel"]


def test_approvals(scene: Scene) -> None:
    item = {"id": "req_1", "type": "mcp_approval_request", "server_label": "s", "name": "pay", "arguments": "{}"}
    done, progress = scene.get("conversation.item.done", item=item)
    assert isinstance(done, up.ItemDone)
    assert progress == up.Progress(what="approval_requested", item_id="req_1", text="pay")
    scene.it.approve("req_1", approve=False, reason="no")
    (answer,) = scene.sent()
    assert isinstance(answer, ev.ConversationItemCreate)
    assert answer.item == items.mcp_approval("req_1", approve=False, reason="no", item_id=answer.item.id or "")
    for step in ("in_progress", "completed", "failed"):
        assert len(scene.get(f"mcp_list_tools.{step}", item_id="m")) == 1


# --- usage, errors, sessions ------------------------------------------------------------------------------------------


USAGE = {
    "total_tokens": 100,
    "input_tokens": 70,
    "output_tokens": 30,
    "input_token_details": {
        "text_tokens": 40,
        "audio_tokens": 20,
        "image_tokens": 10,
        "cached_tokens": 35,
        "cached_tokens_details": {"text_tokens": 25, "audio_tokens": 8, "image_tokens": 2},
    },
    "output_token_details": {"text_tokens": 12, "audio_tokens": 18},
}


def test_usage_is_added_up_by_modality(scene: Scene) -> None:
    for name in ("resp_1", "resp_2"):
        scene.created(name)
        usage = only(scene.done(name, usage=USAGE), up.ResponseDone).usage
        assert usage.input_text + usage.input_audio + usage.input_image == usage.input_tokens
        assert usage.cached_text + usage.cached_audio + usage.cached_image == usage.cached
    total = scene.it.usage
    assert (total.total_tokens, total.input_tokens, total.output_tokens) == (200, 140, 60)
    assert (total.input_text, total.input_audio, total.input_image) == (80, 40, 20)
    assert (total.cached, total.cached_text, total.cached_audio, total.cached_image) == (70, 50, 16, 4)
    assert (total.output_text, total.output_audio) == (24, 36)
    scene.done("resp_2", usage=USAGE)
    assert scene.it.usage == total  # the same answer is not counted twice


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.sampled_from([*USAGE, *USAGE["input_token_details"]]), inner, max_size=4)
        ),
        max_leaves=8,
    )
)
def test_strange_usage_does_not_raise(data: Any) -> None:
    if isinstance(data, dict):
        usage = read_usage(data)
        assert usage is None or all(isinstance(getattr(usage, f), int) for f in usage.__struct_fields__)


@pytest.mark.parametrize(
    ("code", "benign", "fatal"),
    [
        ("response_cancel_not_active", True, False),
        ("session_expired", False, True),
        ("invalid_api_key", False, True),
        ("invalid_model", False, True),
        ("beta_api_shape_disabled", False, True),
        ("invalid_value", False, False),
        (BUSY, False, False),
        ("something_new", False, False),
        (None, False, False),
    ],
)
def test_failures(scene: Scene, code: str | None, benign: bool, fatal: bool) -> None:
    failure = scene.error(code, "event_x", "what is wrong")
    assert (failure.benign, failure.fatal) == (benign, fatal)
    assert (failure.message, failure.code, failure.event_id) == ("what is wrong", code, "event_x")


@pytest.mark.parametrize(
    ("details", "reason", "error"),
    [
        (None, None, None),
        ({"type": "cancelled", "reason": "turn_detected"}, "turn_detected", None),
        ({"type": "incomplete", "reason": "content_filter"}, "content_filter", None),
        (
            {"type": "failed", "error": {"code": "rate_limit_exceeded", "message": "slow"}},
            "rate_limit_exceeded",
            "slow",
        ),
        ({"type": "failed", "error": {"type": "server_error"}}, "server_error", ""),
    ],
)
def test_why_an_answer_did_not_complete(scene: Scene, details: Any, reason: str | None, error: str | None) -> None:
    done = only(scene.done(status="failed", status_details=details), up.ResponseDone)
    assert (done.status, done.reason, done.error) == ("failed", reason, error)


def test_a_session_of_the_current_shape(scene: Scene) -> None:
    session = {
        "id": "sess_1",
        "model": "m",
        "expires_at": 1_800_000_000,
        "audio": {"input": {"format": {"type": "audio/pcmu"}}, "output": {"format": {"type": "audio/pcma"}}},
    }
    started = only(scene.get("session.created", session=session), up.SessionStarted)
    assert (started.session_id, started.facts.model, started.facts.expires_at) == ("sess_1", "m", 1_800_000_000)
    assert started.facts.input_format == scene.it.facts.input_format == up.AudioFormat("ulaw", 8000)
    assert started.facts.output_format == scene.it.facts.output_format == up.AudioFormat("alaw", 8000)
    assert started.settings == session
    changed = only(scene.session(audio={}), up.SessionChanged)
    assert changed.facts.input_format == up.PCM16_24K


def test_a_session_of_the_beta_shape(scene: Scene) -> None:
    event = codec.decode_server(
        '{"type":"transcription_session.updated","session":{"input_audio_format":"g711_ulaw","turn_detection":null}}'
    )
    changed = only(scene.it.receive(event), up.SessionChanged)
    assert changed.facts.input_format == up.AudioFormat("ulaw", 8000)
    assert changed.facts.output_format == up.PCM16_24K


@pytest.mark.parametrize("expires", [None, "soon", [], 1e300, True])
def test_a_session_with_strange_facts(scene: Scene, expires: Any) -> None:
    session = {"id": 7, "model": None, "expires_at": expires, "audio": "loud"}
    started = only(scene.get("session.created", session=session), up.SessionStarted)
    assert started.session_id == "7"
    assert started.facts.model == ""


def test_unknown_and_malformed_messages_are_passed_on(scene: Scene) -> None:
    assert scene.it.receive(ev.UnknownEvent(type="x.y", data={"a": 1})) == [up.Unknown(event_type="x.y", data={"a": 1})]
    assert scene.it.receive(ev.MalformedEvent(type="x.y", error="z")) == [up.Malformed(event_type="x.y", error="z")]


def test_rate_limits(scene: Scene) -> None:
    limits = [{"name": "requests", "limit": 10, "remaining": 9, "reset_seconds": 1.5}]
    assert scene.get("rate_limits.updated", rate_limits=limits) == [up.RateLimits(limits={"requests": (10, 9, 1.5)})]


def test_every_server_event_has_a_handler(scene: Scene) -> None:
    assert {*ev.SERVER_EVENTS, ev.UnknownEvent, ev.MalformedEvent} == set(conversation_module._HANDLERS)


def test_random_ids() -> None:
    ids = {random_id("item") for _ in range(100)}
    assert len(ids) == 100
    assert all(each.startswith("item_") and len(each) == 25 for each in ids)


def test_items_that_only_their_answer_tells_have_a_place(scene: Scene) -> None:
    scene.it.say("one")
    scene.created()
    item = {"id": "item_a", "type": "message", "role": "assistant", "content": []}
    (added,) = scene.get("response.output_item.added", response_id="resp_1", output_index=0, item=item)
    assert isinstance(added, up.ItemAdded)
    question = next(iter(scene.it.items))
    assert (added.item_id, added.role, added.previous_item_id) == ("item_a", "assistant", question)
    assert scene.get("response.output_item.added", response_id="resp_1", output_index=0, item=item) == []
    scene.done()
    scene.it.say("two")
    assert list(scene.it.items)[:2] == [question, "item_a"]


def test_an_answer_with_parts_without_end(scene: Scene) -> None:
    scene.created()
    for n in range(3000):
        scene.text("x", item=f"item_{n}", at=(n, n))
        scene.audio(1, item=f"item_{n}", at=(n, n))
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
    held = [it.book.running, it.book._over, it.book.recent, it._own_items, it.requests._apart, it._answering.tools._open, it.gate._ended]
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


def test_the_gate_alone() -> None:
    gate = ResponseGate(limit=1)
    assert gate.next() is None
    assert gate.submit(ev.ResponseCreate(event_id="a"))
    assert not gate.submit(ev.ResponseCreate(event_id="b"))
    assert gate.join(plain=True) == "a"
    assert gate.next() == ev.ResponseCreate(event_id="a")
    assert gate.next() is None
    assert gate.asked
    gate.created("r")
    assert not gate.asked
    gate.done("r")
    assert not gate.busy
    assert not gate.refused("a", BUSY)
