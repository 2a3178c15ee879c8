"""`realtime say` against a server that says exactly what the test wants."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
from scripted_server import SESSION, Peer, ScriptedServer

from realtime_client.cli import main

WHERE = {"response_id": "resp_1", "item_id": "item_a", "output_index": 0, "content_index": 0}


def says(*events: dict[str, Any] | str, session: dict[str, Any] | None = None) -> Callable[[Peer], None]:
    """A server that answers a request with these; without an end it adds one."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("session.update")
        peer.send(type="session.updated", event_id="e", session=SESSION | (session or {}))
        peer.receive("response.create")
        for event in events:
            peer.raw(event) if isinstance(event, str) else peer.send(**event)
        peer.read_all()

    return script


CREATED = {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}}
DONE = {"type": "response.done", "response": {"id": "resp_1", "status": "completed", "output": []}}
MESSAGE = {"id": "item_a", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi."}]}


def delta(text: str) -> dict[str, Any]:
    return {"type": "response.output_text.delta", **WHERE, "delta": text}


def sound(data: str) -> dict[str, Any]:
    return {"type": "response.output_audio.delta", **WHERE, "delta": data}


SOUND = sound(base64.b64encode(bytes(4800)).decode())


def run(script: Callable[[Peer], None], *arguments: str) -> int:
    with ScriptedServer(script) as server:
        return main(["say", "hello", "--url", server.url, "--no-record", *arguments])


@pytest.mark.parametrize(
    "events",
    [
        [CREATED, delta("Hi."), DONE],
        [CREATED, delta("H"), {"type": "response.output_text.done", **WHERE, "text": "Hi."}, DONE],
        [CREATED, {"type": "response.content_part.done", **WHERE, "part": {"type": "text", "text": "Hi."}}, DONE],
        [CREATED, {"type": "response.output_item.done", "response_id": "resp_1", "item": MESSAGE}, DONE],
        [CREATED, {"type": "response.done", "response": {"id": "resp_1", "output": [MESSAGE]}}],
        [CREATED, {"type": "response.output_text.delta", "delta": "Hi."}, DONE],
        [CREATED, '{"type":"response.output_text.delta","delta":"Hi.","x":"\\ud800","output_index":0.0}', DONE],
        [CREATED, {"type": "error", "error": "somebody else's"}, delta("Hi."), DONE],
        [{"type": "error", "error": "somebody else's"}, CREATED, delta("Hi."), DONE],
    ],
    ids=["deltas", "done", "part", "item", "response", "bare", "odd", "error in it", "error before it"],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_one_way_to_the_text(events: list[Any], as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(says(*events), *(["--json"] if as_json else [])) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out)["text"] if as_json else out) == ("Hi." if as_json else "Hi.\n")
    if any("somebody" in str(event) for event in events):
        assert err.count("somebody else's") == 1


def test_half_an_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(says(CREATED, delta("a \ud83d"), delta("\ude00 b"), DONE)) == 0
    assert capsys.readouterr().out == "a \U0001f600 b\n"


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([], "the answer is empty"),
        ([sound("%%%"), sound("%%%")], "2 messages could not be read"),
        ([{"type": "response.output_text.delta", **WHERE, "delta": 7}], "1 messages could not be read"),
        ([delta(" \n")], "the answer is empty"),
    ],
)
def test_success_with_nothing_to_show_is_none(
    events: list[Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(says(CREATED, *events, DONE)) == 1
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_a_call_is_something_to_show() -> None:
    call = {"id": "c", "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"}
    assert run(says(CREATED, {"type": "response.output_item.done", **WHERE, "item": call}, DONE)) == 0


def test_sound_that_could_not_be_decoded_is_told_last(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(says(CREATED, SOUND, sound("%%%"), delta("Hi."), DONE)) == 0
    assert "1 pieces of the answer's sound could not be decoded" in capsys.readouterr().err.splitlines()[-1]


def test_a_file_that_was_asked_for_and_not_made_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "answer.wav"
    assert run(says(CREATED, delta("Hi."), DONE), "--out", str(out)) == 1
    assert "no sound" in capsys.readouterr().err
    assert not out.exists()
    assert run(says(CREATED, SOUND, DONE), "--out", str(out)) == 0
    assert soundfile.info(out).frames == 2400


def test_a_refusal_without_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(says({"type": "error", "message": "no capacity", "code": 503})) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "realtime: no capacity"


def test_a_server_that_never_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(says(), "--answer-timeout", "0.3") == 1
    assert "has not answered for 0.3 s" in capsys.readouterr().err.splitlines()[-1]


def test_a_server_that_begins_and_never_ends(capsys: pytest.CaptureFixture[str]) -> None:
    events = (CREATED, delta("Half"), {"type": "error", "error": {"message": "upstream is gone"}})
    assert run(says(*events), "--timeout", "0.6") == 1
    out, err = capsys.readouterr()
    assert out == "Half\n", "what went wrong gets a line of its own"
    last = err.splitlines()[-1]
    assert "no complete answer within 0.6 s" in last
    assert "upstream is gone" in last
