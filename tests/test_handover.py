"""A conversation that begins with a realtime model, loses it, and goes on in writing: one session, one recording."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from scripted_server import SESSION, Peer, ScriptedServer
from sound_card import wait_until
from text_server import DONE, TextServer, answers, delta, drops, in_turn, refuses, silent, stream, usage

from realtime_client import errors
from realtime_client import updates as up
from realtime_client.changes import Changes
from realtime_client.chat.limits import ChatLimits
from realtime_client.chat.orders import Wishes
from realtime_client.chat.place import Place
from realtime_client.chat.wires.openai_chat import OpenAIChat
from realtime_client.client.endpoint import Endpoint
from realtime_client.handover import StandbyClient
from realtime_client.protocol.session import RealtimeConfig
from realtime_client.recording.recorder import Recorder
from realtime_client.session.limits import Limits, Recovery

WAIT_S = 10.0
LIMITS = Limits(open_timeout_s=5, close_timeout_s=2, ping_interval_s=0)


def standby(url: str, *servers: TextServer, **more: Any) -> StandbyClient:
    places = [
        Place(provider="openai", model=f"m{n}", base_url=server.url, wire=OpenAIChat())
        for n, server in enumerate(servers)
    ]
    return StandbyClient(
        Endpoint(url=url, proxy=None), places=places, wishes=Wishes(instructions="Be brief."), limits=LIMITS,
        chat_limits=ChatLimits(retry_delay_s=0.001), **more,
    )  # fmt: skip


def answers_once(peer: Peer) -> None:
    peer.greet()
    peer.receive("response.create")
    peer.answer("It is three.", "resp_1")
    peer.receive("conversation.item.create")
    peer.drop()


def test_the_conversation_goes_on_with_all_that_was_said(tmp_path: Path):
    recorder = Recorder.create(tmp_path, settings={})
    with ScriptedServer(answers_once) as realtime, TextServer(answers("It is ", "seven.")) as text:
        with standby(realtime.url, text, recorder=recorder) as client, client.updates(timeout_s=WAIT_S) as updates:
            assert client.ask("One plus two?", timeout_s=WAIT_S).text == "It is three."
            assert client.facts.abilities.audio_in
            client.send_text("Three plus four?")  # the server goes before it answers this
            seen = []
            for update in updates:
                seen.append(update)
                if isinstance(update, up.ResponseDone) and update.text == "It is seven.":
                    break
            assert client.ask("Sure?", timeout_s=WAIT_S).text == "It is seven."
            assert (client.model, client.where) == ("openai/m0", text.host)
            assert not client.facts.abilities.audio_in
            client.send_audio(b"\0\0" * 480)  # the microphone is still on
            client.retry()
        asked = [f"{m['role']}: {m['content']}" for m in text.requests[0].json["messages"]]
    assert asked == ["system: Be brief.", "user: One plus two?", "assistant: It is three.", "user: Three plus four?"]
    notice = next(update for update in seen if isinstance(update, up.Notice) and "in writing" in update.message)
    assert "going on in writing with openai/m0" in notice.message
    assert client.error is None
    lines = (recorder.folder / "transcript.jsonl").read_text().splitlines()
    said = [json.loads(line)["text"] for line in lines]
    assert said[:4] == ["One plus two?", "It is three.", "Three plus four?", "It is seven."]
    assert json.loads((recorder.folder / "session.json").read_text())["how_it_ended"] == "closed"


def test_who_waits_for_an_answer_gets_it_from_the_other():
    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        peer.drop()

    with ScriptedServer(script) as realtime, TextServer(answers("It is seven.")) as text:
        with standby(realtime.url, text) as client:
            assert client.ask("Three plus four?", timeout_s=WAIT_S).text == "It is seven."


def test_a_server_that_is_not_there_is_no_reason_not_to_talk():
    with TextServer(answers("Hello.")) as text:
        with standby("ws://127.0.0.1:9/v1/realtime", text, session=RealtimeConfig()) as client:
            assert client.ask("Hi?", timeout_s=WAIT_S).text == "Hello."
            assert client.answering is False


def test_a_server_that_goes_before_it_has_greeted():
    with ScriptedServer(lambda peer: peer.drop()) as realtime, TextServer(answers("Hello.")) as text:
        with standby(realtime.url, text, session=RealtimeConfig()) as client:
            assert client.ask("Hi?", timeout_s=WAIT_S).text == "Hello."


def breaks_off(*, spoken: bool = False, cut: bool = False):
    """A server that goes in the middle of an answer. cut: after the user has interrupted it."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        peer.send(type="response.created", event_id="e", response={"id": "resp_1", "status": "in_progress"})
        item = {"id": "item_a", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        peer.send(type="response.output_item.added", event_id="e", response_id="resp_1", output_index=0, item=item)
        peer.send(type="conversation.item.added", event_id="e", item=item)
        part = {"response_id": "resp_1", "item_id": "item_a", "output_index": 0, "content_index": 0}
        kind = "output_audio_transcript" if spoken else "output_text"
        peer.send(type=f"response.{kind}.delta", event_id="e", delta="One, two, ", **part)
        if spoken:
            audio = base64.b64encode(b"\0\1" * 4_800).decode()
            peer.send(type="response.output_audio.delta", event_id="e", delta=audio, **part)
        peer.receive("response.cancel" if cut else None)
        peer.drop()

    return script


def test_a_half_given_answer_is_gone_on_with():
    with ScriptedServer(breaks_off()) as realtime, TextServer(answers("three.")) as text:
        with standby(realtime.url, text) as client, client.updates(timeout_s=WAIT_S) as updates:
            client.send_text("Count to three.")
            next(update for update in updates if isinstance(update, up.TextDelta))
            client.update_session(RealtimeConfig(instructions="x"))
            source = next(u for u in updates if isinstance(u, up.AnswerSource))
            done = next(u for u in updates if isinstance(u, up.ResponseDone))
        assert (source.response_id, source.item_id, source.offset) == ("resp_1", "item_a", 10)
        assert "in the middle of an answer" in source.reason
        assert (done.response_id, done.status, done.text) == ("resp_1", "completed", "One, two, three.")
        assert done.item_ids == ("item_a",)
        said = [message["content"] for message in text.requests[0].json["messages"]]
        assert said[1:3] == ["Count to three.", "One, two, "]
        assert len(said) == 4, "it is told to go on"


def test_of_a_spoken_answer_the_rest_comes_in_writing(tmp_path):
    recorder = Recorder.create(tmp_path, settings={})
    with ScriptedServer(breaks_off(spoken=True)) as realtime, TextServer(answers("three.")) as text:
        with standby(realtime.url, text, recorder=recorder) as client:
            audio = []

            def more(update: up.Update, _at_s: float) -> None:
                if isinstance(update, up.AudioDelta):
                    audio.append(update.audio)
                    client.update_session(RealtimeConfig(instructions="x"))

            client.observe(more)
            answer = client.ask("Count to three.", timeout_s=WAIT_S)
    assert (answer.status, answer.text) == ("completed", "One, two, three.")
    assert answer.audio == b"".join(audio) != b""
    assert [source.offset for source in answer.sources] == [10]
    lines = [json.loads(line) for line in (recorder.folder / "transcript.jsonl").read_text().splitlines()]
    (turn,) = [line for line in lines if line["who"] == "assistant"]
    assert (turn["text"], turn["status"], turn["interrupted"]) == ("One, two, three.", "completed", False)
    assert turn["audio"]
    assert [source["offset"] for source in turn["sources"]] == [0, 10]


def test_an_answer_that_the_user_has_cut_is_not_gone_on_with():
    with ScriptedServer(breaks_off(cut=True)) as realtime, TextServer(answers("Fine.")) as text:
        with standby(realtime.url, text) as client, client.updates(timeout_s=WAIT_S) as updates:
            client.send_text("Count to three.")
            next(update for update in updates if isinstance(update, up.TextDelta))
            client.cancel()
            done = next(update for update in updates if isinstance(update, up.ResponseDone))
            assert done.text == "One, two, "
            assert client.ask("Stop?", timeout_s=WAIT_S).text == "Fine."
        assert len(text.requests) == 1


def test_a_half_given_answer_that_nobody_can_go_on_with_is_taken_back():
    with ScriptedServer(breaks_off()) as realtime, TextServer(refuses(400, "no"), answers("Hello.")) as text:
        with standby(realtime.url, text) as client, client.updates(timeout_s=WAIT_S) as updates:
            client.send_text("Count to three.")
            next(update for update in updates if isinstance(update, up.TextDelta))
            client.update_session(RealtimeConfig(instructions="x"))
            done = next(update for update in updates if isinstance(update, up.ResponseDone))
            assert (done.response_id, done.status) == ("resp_1", "failed")
            assert client.ask("Hello?", timeout_s=WAIT_S).text == "Hello."
        said = [message["content"] for message in text.requests[-1].json["messages"]]
        assert said[-1:] == ["Hello?"]
        assert "One, two, " not in said


def test_an_end_in_order_is_the_end():
    def script(peer: Peer) -> None:
        peer.greet()
        peer.websocket.close(1000, "good bye")

    with ScriptedServer(script) as realtime, TextServer(answers("Hello.")) as text:
        with standby(realtime.url, text) as client:
            assert client.stop.wait(WAIT_S)
        assert not text.requests


def test_the_chain_goes_on_behind_it():
    with TextServer(stream(delta("One, "), drops)) as first, TextServer(answers("two.")) as second:
        with standby("ws://127.0.0.1:9/v1/realtime", first, second) as client:
            assert client.ask("Count.", timeout_s=WAIT_S).text == "One, two."


def test_what_only_one_of_the_two_can_do():
    def script(peer: Peer) -> None:
        peer.greet()
        peer.read_all()

    with ScriptedServer(script) as realtime, TextServer(answers("Hello.")) as text:
        with standby(realtime.url, text) as client:
            several = functools.partial(client.send_text, "Hi", answers=2)
            for call in (client.retry, lambda: client.edit("x"), lambda: client.choose(0), several):
                with pytest.raises(errors.UsageError, match="a realtime model"):
                    call()
        with standby("ws://127.0.0.1:9/v1/realtime", text) as client:
            with pytest.raises(errors.HostUnreachableError):
                client.reconnect()
            assert client.ask("Still there?", timeout_s=WAIT_S).text == "Hello."
            with pytest.raises(errors.UsageError, match="not sound"):
                client.commit()


def test_a_call_that_waits_for_its_result_is_answered_by_the_text_model():
    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        peer.send(type="response.created", event_id="e", response={"id": "resp_1", "status": "in_progress"})
        item = {"id": "item_c", "type": "function_call", "call_id": "call_1", "name": "clock", "arguments": "{}"}
        place = {"response_id": "resp_1", "output_index": 0}
        peer.send(type="response.output_item.added", event_id="e", item=item | {"status": "in_progress"}, **place)
        peer.send(type="conversation.item.added", event_id="e", item=item | {"status": "in_progress"})
        peer.send(type="response.output_item.done", event_id="e", item=item | {"status": "completed"}, **place)
        peer.send(type="conversation.item.done", event_id="e", item=item | {"status": "completed"})
        done = {"id": "resp_1", "status": "completed", "output": [item | {"status": "completed"}]}
        peer.send(type="response.done", event_id="e", response=done)
        peer.receive("session.update")
        peer.drop()

    with ScriptedServer(script) as realtime, TextServer(answers("It is noon.")) as text:
        with standby(realtime.url, text) as client, client.updates(timeout_s=WAIT_S) as updates:
            client.send_text("What time is it?")
            call = next(update for update in updates if isinstance(update, up.ToolCall))
            next(update for update in updates if isinstance(update, up.ResponseDone))
            client.update_session(RealtimeConfig(instructions="x"))
            next(update for update in updates if isinstance(update, up.Notice))
            client.send_tool_result(call.call_id, "12:00")
            assert next(update for update in updates if isinstance(update, up.ResponseDone)).text == "It is noon."
        roles = [message["role"] for message in text.requests[0].json["messages"]]
        assert roles == ["system", "user", "assistant", "tool"]


def test_a_server_that_goes_during_a_reconnect():
    """The new server has let us in when the old one goes: the session is in writing, and then back."""
    let_in, gone = threading.Event(), threading.Event()

    def old(peer: Peer) -> None:
        peer.greet()
        assert let_in.wait(WAIT_S)
        peer.drop()

    def new(_connection: object, _request: object) -> None:
        let_in.set()
        assert gone.wait(WAIT_S)

    def here(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        peer.answer("Here.")
        peer.read_all()

    with ScriptedServer(old) as first, ScriptedServer(here, process_request=new) as second:
        with TextServer(answers("Hi.")) as text, standby(first.url, text) as client:
            client.observe(lambda update, _at_s: gone.set() if isinstance(update, up.Notice) else None)
            client.reconnect(Endpoint(url=second.url, proxy=None))
            assert client.ask("Still there?", timeout_s=WAIT_S).text == "Here."
            assert not text.requests


def test_a_new_server_that_never_greets():
    def old(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        peer.answer("Here.")
        peer.read_all()

    with ScriptedServer(old) as first, ScriptedServer(lambda peer: peer.websocket.close(1000)) as second:
        with TextServer(answers("Hi.")) as text, standby(first.url, text) as client:
            with pytest.raises(errors.SessionRefusedError):
                client.reconnect(Endpoint(url=second.url, proxy=None))
            assert client.ask("Still there?", timeout_s=WAIT_S).text == "Here."
            assert not text.requests


def test_text_models_that_stand_by_are_watched():
    seen: list[object] = []
    with TextServer(answers("Hello.")) as text:
        with standby("ws://127.0.0.1:9/v1/realtime", text) as client:
            client.watch(seen.append)
            assert client.ask("Hi?", timeout_s=WAIT_S).text == "Hello."
            with pytest.raises(errors.UsageError, match="must be callable"):
                client.watch("no")  # type: ignore[arg-type]
    assert seen


# --- when it cannot be had again in time, and back --------------------------------------------------------------------


CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}


def speaks(text: str = "Aloud.", *, told: list[tuple[str, str]] | None = None):
    """A server of a realtime model that answers everything. told: takes what it is told, and by whom it was said."""

    def script(peer: Peer) -> None:
        peer.greet()
        number = 0
        while (event := peer.receive())["type"] != "close":
            if event["type"] == "conversation.item.create":
                item = event["item"]
                if told is not None:
                    told.append((item.get("role", item["type"]), "".join(p["text"] for p in item.get("content") or ())))
                peer.send(type="conversation.item.added", event_id="e", item=item)
            elif event["type"] == "session.update":
                peer.send(type="session.updated", event_id="e", session=SESSION | event["session"])
            elif event["type"] == "response.create":
                number += 1
                peer.answer(text, f"resp_{id(peer)}_{number}")

    return script


def lost_at_once(peer: Peer) -> None:
    """It goes when it is asked something."""
    peer.greet()
    peer.receive("response.create")
    peer.drop()


class Changing:
    """Lets each connection meet another script, or be refused with a status; the last one is for all that follow."""

    def __init__(self, *scripts: Any) -> None:
        self._scripts = list(scripts)

    def _next(self) -> Any:
        return self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]

    def admit(self, connection: Any, _request: Any) -> Any:
        self.script = self._next()
        return connection.respond(self.script, "no") if isinstance(self.script, HTTPStatus) else None

    def __call__(self, peer: Peer) -> None:
        self.script(peer)


@contextlib.contextmanager
def changing(*scripts: Any) -> Iterator[ScriptedServer]:
    each = Changing(*scripts)
    with ScriptedServer(each, process_request=each.admit) as server:
        yield server


def watched(client: StandbyClient) -> list[up.Update]:
    told: list[up.Update] = []
    client.observe(lambda update, _at_s: told.append(update))
    return told


def of(kind: type[up.Update], told: list[up.Update]) -> list[Any]:
    return [update for update in told if isinstance(update, kind)]


@pytest.mark.parametrize(
    ("then", "after_s", "reconnect_s", "tries"),
    [
        (HTTPStatus.SERVICE_UNAVAILABLE, 0.5, 300.0, True),
        (HTTPStatus.SERVICE_UNAVAILABLE, 300.0, 0.5, True),
        (HTTPStatus.UNAUTHORIZED, 300.0, 300.0, True),
        (HTTPStatus.SERVICE_UNAVAILABLE, 0.0, 300.0, False),
        (HTTPStatus.SERVICE_UNAVAILABLE, 300.0, 0.0, False),
    ],
    ids=["its time is over", "the time for all is over", "a refused key", "no time", "no reconnecting"],
)
def test_what_was_asked_is_answered_by_the_text_model_once(
    then: HTTPStatus, after_s: float, reconnect_s: float, tries: bool
) -> None:
    with changing(lost_at_once, then) as server, TextServer(answers("It is seven.")) as text:
        recovery = Recovery(reconnect_s=reconnect_s)
        with standby(server.url, text, after_s=after_s, recovery=recovery) as client:
            told = watched(client)
            assert client.ask("Three plus four?", timeout_s=WAIT_S).text == "It is seven."
            assert client.ask("Sure?", timeout_s=WAIT_S).text == "It is seven."
            assert not client.away
        assert len(text.requests) == 2
        assert [m["content"] for m in text.requests[0].json["messages"]][1:] == ["Three plus four?"]
    assert bool(of(up.Reconnecting, told)) == tries
    assert len(of(up.SessionChanged, told)) == 1
    assert len(of(up.ResponseDone, told)) == 2
    assert all(lost.goes_on for lost in of(up.ConnectionLost, told))
    assert not [failure for failure in of(up.Failure, told) if failure.code == up.REQUEST_CANCELLED]
    assert client.error is None


def test_it_comes_back_in_time() -> None:
    """Then the text models are not asked."""
    with changing(lost_at_once, HTTPStatus.BAD_GATEWAY, speaks()) as server, TextServer(answers("No.")) as text:
        with standby(server.url, text, after_s=30.0, recovery=Recovery()) as client:
            assert client.ask("Three plus four?", timeout_s=WAIT_S).text == "Aloud."
        assert not text.requests


def test_a_realtime_model_goes_on_again_when_it_is_wanted_and_knows_what_was_said_in_writing(tmp_path: Path) -> None:
    """And once more: to writing, and back."""
    heard: list[tuple[str, str]] = []
    again: list[tuple[str, str]] = []
    recorder = Recorder.create(tmp_path, settings={})
    with (
        changing(answers_once, speaks(told=heard), speaks(told=again)) as server,
        TextServer(answers("In writing.")) as text,
        standby(server.url, text, recorder=recorder) as client,
    ):
        told = watched(client)
        client.ask("One?", timeout_s=WAIT_S)
        assert client.ask("Two?", timeout_s=WAIT_S).text == "In writing."
        assert client.ask("Three?", timeout_s=WAIT_S).text == "In writing."
        assert client.edit("Four?").item_id
        wait_until(lambda: not client.answering, WAIT_S)
        client.reconnect()
        assert client.facts.abilities.audio_in
        assert client.where.startswith("ws://")
        client.send_audio(b"\0\1" * 4800)
        assert client.ask("Five?", timeout_s=WAIT_S).text == "Aloud."
        before = [
            ("user", "One?"), ("assistant", "It is three."), ("user", "Two?"), ("assistant", "In writing."),
            ("user", "Four?"), ("assistant", "In writing."),
        ]  # fmt: skip
        assert heard == [*before, ("user", "Five?")]
        (restored,) = of(up.Restored, told)
        assert (restored.reason, restored.away_ms, restored.told) == ("asked", 0, 6)
        assert len(of(up.SessionChanged, told)) == 2
        assert not of(up.Failure, told)
        client._connection._wire.abort()  # the line is dead
        assert client.ask("Six?", timeout_s=WAIT_S).text == "In writing."
        said = [m["content"] for m in text.requests[-1].json["messages"]][1:]
        assert said == [*(what for _, what in before), "Five?", "Aloud.", "Six?"]
        client.reconnect()
        assert client.ask("Seven?", timeout_s=WAIT_S).text == "Aloud."
        six = [("user", "Five?"), ("assistant", "Aloud."), ("user", "Six?"), ("assistant", "In writing.")]
        assert again == [*before, *six, ("user", "Seven?")]
        assert client.stats().text.requests == 4
    assert client.error is None
    assert json.loads((recorder.folder / "session.json").read_text())["how_it_ended"] == "closed"
    lines = (recorder.folder / "transcript.jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines][-2:] == ["Seven?", "Aloud."]


def test_an_answer_in_writing_that_runs_is_asked_again_of_the_realtime_model() -> None:
    """Who waits for it gets the new one; what waited behind it is answered, too."""
    with (
        changing(lost_at_once, speaks()) as server,
        TextServer(in_turn(answers("Yes."), stream(delta("One, two, "), silent))) as text,
        standby(server.url, text) as client,
    ):
        told = watched(client)
        assert client.ask("There?", timeout_s=WAIT_S).text == "Yes."
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(client.ask, "Count to three.", timeout_s=WAIT_S)
            wait_until(lambda: of(up.TextDelta, told)[1:], WAIT_S)
            behind = client.respond()
            client.reconnect()
            assert answer.result(WAIT_S).text == "Aloud."
        wait_until(lambda: len(of(up.ResponseDone, told)) == 4)
        assert not client._engine.conversation.answering
        assert not [thread for thread in client._engine.threads() if thread.name.startswith("realtime-stream")]
    statuses = [(each.status, each.text) for each in of(up.ResponseDone, told)]
    assert statuses == [("completed", "Yes."), ("incomplete", "One, two, "), *[("completed", "Aloud.")] * 2]
    assert [each.request_id for each in of(up.ResponseStarted, told)][-1] == behind


def test_what_nobody_could_answer_is_answered_by_the_realtime_model() -> None:
    with (
        changing(lost_at_once, speaks()) as server,
        TextServer(refuses(503, "no")) as text,
        standby(server.url, text) as client,
    ):
        told = watched(client)
        client.send_text("Three plus four?")
        wait_until(lambda: [n for n in of(up.Notice, told) if "is kept" in n.message])
        client.reconnect()
        wait_until(lambda: of(up.ResponseDone, told)[-1].text == "Aloud.")
    assert [each.status for each in of(up.ResponseDone, told)] == ["failed", "completed"]


def test_a_call_that_was_made_in_writing_gets_its_result_in_the_realtime_session() -> None:
    heard: list[tuple[str, str]] = []
    with (
        changing(lost_at_once, speaks("It is noon.", told=heard)) as server,
        TextServer(stream(delta(tool_calls=[CALL]), delta(finish="tool_calls"), usage(), DONE)) as text,
        standby(server.url, text) as client,
    ):
        told = watched(client)
        client.send_text("What time is it?")
        wait_until(lambda: of(up.ToolCall, told) and of(up.ResponseDone, told))
        client.reconnect()
        client.send_tool_result(of(up.ToolCall, told)[0].call_id, "12:00")
        wait_until(lambda: len(of(up.ResponseDone, told)) == 2)
        assert of(up.ResponseDone, told)[1].text == "It is noon."
        (follows,) = of(up.AnswerFollows, told)
        assert follows.response_id == of(up.ToolCall, told)[0].response_id
    assert [kind for kind, _ in heard] == ["user", "function_call", "function_call_output"]


def test_what_was_changed_in_writing_is_in_force_afterwards() -> None:
    with (
        changing(lost_at_once, speaks()) as server,
        TextServer(answers("Yes.")) as text,
        standby(server.url, text) as client,
    ):
        client.ask("There?", timeout_s=WAIT_S)
        client.change(Changes(instructions="Be kind."))
        client.reconnect()
        assert client.settings["instructions"] == "Be kind."


def test_a_session_that_began_in_writing_can_go_on_aloud() -> None:
    with ScriptedServer(speaks()) as server, TextServer(answers("Hello.")) as text:
        with standby("ws://127.0.0.1:9/v1/realtime", text, session=RealtimeConfig()) as client:
            assert client.ask("Hi?", timeout_s=WAIT_S).text == "Hello."
            client.reconnect(Endpoint(url=server.url, proxy=None))
            assert client.ask("Hi?", timeout_s=WAIT_S).text == "Aloud."
        assert client.error is None


def test_a_realtime_session_that_ends_after_the_return_says_how() -> None:
    """The text models that rest have no part in its end."""

    def ends(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        peer.answer("Aloud.")
        peer.websocket.close(1000, "good bye")

    with changing(lost_at_once, ends) as server, TextServer(answers("Yes.")) as text:
        with standby(server.url, text) as client:
            told = watched(client)
            client.ask("There?", timeout_s=WAIT_S)
            client.reconnect()
            client.ask("And now?", timeout_s=WAIT_S)
            assert client.stop.wait(WAIT_S)
    (ended,) = of(up.SessionEnded, told)
    assert "good bye" in ended.reason
