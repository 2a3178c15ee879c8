"""The recording of a session with text models: who made what, what stands beside it, what was taken back, and no key."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scripted_server import Peer, ScriptedServer
from text_server import DONE, TextServer, answers, delta, drops, in_turn, refuses, silent, sse, stream, usage

import realtime_client
from realtime_client import updates as up
from realtime_client.changes import ToolSpec
from realtime_client.errors import ResponseFailedError
from realtime_client.recording import Recorder, recover
from realtime_client.recording.journal_reader import read_journal
from realtime_client.report import write_report
from realtime_client.report.session_data import read_session

LIMIT_S = 30.0
LONG = "half an " + "o" * 70_000
KEY, OTHER_KEY, HEADER, IN_URL = "sk-first-key-123456", "other-key-7890123", "from-header-456789", "in-url-0123456789"


class Folder:
    """What is on disk."""

    def __init__(self, base: Path) -> None:
        (self.path,) = base.iterdir()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.path / "transcript.jsonl").read_text().splitlines()]

    def said(self) -> list[tuple[str, str]]:
        return [(line["who"], line["text"]) for line in self.lines()]

    def text(self, name: str) -> str:
        return (self.path / name).read_text()

    def session(self) -> dict[str, Any]:
        return json.loads(self.text("session.json"))

    def updates(self) -> list[up.Update]:
        return [update for line in read_journal(self.path / "journal.jsonl") if line for update in line.updates]

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.path)) for path in self.path.rglob("*") if path.is_file())


def open_session(server: TextServer, base: Path, **values: Any) -> Any:
    """A recorded session with one model, or a chain."""
    return realtime_client.connect(
        **{"model": "openai/test", "url": server.url, "token": KEY, "record_dir": str(base), "retry_delay_s": 0.01}
        | values
    )


def test_a_recorded_session_makes_a_folder_without_sound(tmp_path):
    with TextServer(answers("Hello", " there."), refuses(503, {"error": {"message": "busy"}}), answers("Fine.")) as it:
        with open_session(it, tmp_path) as session:
            session.ask("Hi", timeout_s=LIMIT_S)
            session.ask("How are you?", timeout_s=LIMIT_S)
    folder = Folder(tmp_path)
    assert folder.files() == [
        "journal.jsonl", "session.json", "transcript.jsonl", "transcript.md", "transcript.srt", "transcript.vtt",
    ]  # fmt: skip
    assert folder.said() == [
        ("user", "Hi"), ("assistant", "Hello there."), ("user", "How are you?"), ("assistant", "Fine."),
    ]  # fmt: skip
    assert all(line["audio"] is None and line["status"] == "completed" for line in folder.lines())
    assert folder.text("transcript.md").count("\n\n**") == 4
    assert folder.text("transcript.srt").startswith("1\n00:00:0")
    assert "<v Assistant>Fine." in folder.text("transcript.vtt")
    session_json = folder.session()
    assert (session_json["state"], session_json["how_it_ended"]) == ("ended", "closed")
    assert (session_json["model"], session_json["session"]["models"]) == ("openai/test", ["openai/test"])
    assert session_json["settings"]["endpoint"] == it.url
    assert session_json["usage"]["total_tokens"] == 20
    assert session_json["retries"] == {"openai/test": 1}
    assert session_json["breakers"] == {"openai/test": "closed"}
    assert session_json["totals"] == {"turns": 4, "user_audio_s": 0.0, "assistant_audio_s": 0.0}
    stats = session_json["stats"]
    assert all(turn["first_text_ms"] > 0 for turn in stats["turns"])
    first, refused, second = stats["text"]["streams"]
    assert (first["source"], first["tokens"], first["pieces"]) == ("openai/test", 3, 2)
    assert first["tokens_per_s"] > 0
    assert first["first_s"] > 0
    assert "first_s" not in refused
    assert second["characters"] == 5
    bodies = [
        json.loads(bytes(line.event)) for line in read_journal(folder.path / "journal.jsonl") if line.dir == "out"
    ]
    assert [(body["type"], body["model"], body["entries"]) for body in bodies] == [
        ("request", "openai/test", 1),
        ("request", "openai/test", 3),
        ("request", "openai/test", 3),
    ], "what was said stands in the journal once, and not in each request"


def test_no_key_is_in_any_file(tmp_path):
    """Keys of all models of the chain, of headers and of URLs; servers repeat them in errors and in answers."""
    everything = f"{KEY} {OTHER_KEY} {HEADER} {IN_URL}"
    with (
        TextServer(refuses(401, {"error": {"message": f"wrong key {everything}"}})) as first,
        TextServer(answers("I know ", everything)) as second,
    ):
        url = f"{first.url}?key={IN_URL}"
        values = {"url": url, "header": f"X-Secret={HEADER}", "fallback": "openai/other", "base_url": second.url}
        with open_session(first, tmp_path, **values, api_key=OTHER_KEY) as session:
            answer = session.ask("Which keys?", timeout_s=LIMIT_S)
            assert OTHER_KEY in answer.text
        assert first.requests[0].headers["authorization"] == f"Bearer {KEY}"
        assert second.requests[0].headers["authorization"] == f"Bearer {OTHER_KEY}"
        assert first.requests[0].headers["x-secret"] == HEADER
        assert "x-secret" not in second.requests[0].headers, "it was given for the first one"
    folder = Folder(tmp_path)
    for name in folder.files():
        for secret in (KEY, OTHER_KEY, HEADER, IN_URL):
            assert secret not in folder.text(name), name
    assert folder.lines()[1]["text"].startswith("I know ***")
    assert folder.session()["fallbacks"] == {"openai/test": 1}


def test_an_answer_that_another_model_goes_on_with_says_who_made_what(tmp_path):
    dies = stream(delta("One, two"), drops)
    with TextServer(dies) as first, TextServer(answers(", three.")) as second:
        with open_session(first, tmp_path, fallback="openai/other", base_url=second.url, api_key=KEY) as session:
            session.ask("Count.", timeout_s=LIMIT_S)
    folder = Folder(tmp_path)
    (_, line) = folder.lines()
    assert line["text"] == "One, two, three."
    begun, went_on = line["sources"]
    assert begun == {"offset": 0, "source": "openai/test"}
    assert (went_on["offset"], went_on["source"]) == (len("One, two"), "openai/other")
    assert went_on["reason"].startswith("the answer was cut")
    assert ": One, two⟨openai/other⟩, three.\n" in folder.text("transcript.md")
    assert "⟨" not in folder.text("transcript.srt")


def test_one_model_that_is_asked_for_the_rest_is_marked_too(tmp_path):
    with TextServer(in_turn(stream(delta("One, two"), drops), answers(", three."))) as server:
        with open_session(server, tmp_path) as session:
            assert session.ask("Count.", timeout_s=LIMIT_S).text == "One, two, three."
    folder = Folder(tmp_path)
    assert [(each["offset"], each["source"]) for each in folder.lines()[1]["sources"]] == [
        (0, "openai/test"), (8, "openai/test"),
    ]  # fmt: skip
    assert folder.session()["retries"] == {"openai/test": 1}


def test_an_answer_that_never_began_at_the_first_model_is_the_second_models(tmp_path):
    with (
        TextServer(refuses(404, {"error": {"message": "no such model"}})) as first,
        TextServer(answers("Hi.")) as second,
    ):
        with open_session(first, tmp_path, fallback="openai/other", base_url=second.url, api_key=KEY) as session:
            session.ask("Hello", timeout_s=LIMIT_S)
    (source,) = Folder(tmp_path).lines()[1]["sources"]
    assert (source["offset"], source["source"]) == (0, "openai/other")
    assert "): ⟨openai/other⟩Hi." in Folder(tmp_path).text("transcript.md")


def test_alternatives_are_kept_with_the_chosen_one_also_when_chosen_later(tmp_path):
    with TextServer(answers("first"), answers("second"), answers("third"), answers("later")) as server:
        with open_session(server, tmp_path) as session, session.updates(LIMIT_S) as updates:
            session.ask("Say a number.", timeout_s=LIMIT_S)
            session.retry()
            wait_for(updates, up.Alternatives)
            session.ask("And now?", timeout_s=LIMIT_S)
            session.choose(0)
    folder = Folder(tmp_path)
    assert folder.said()[:2] == [("user", "Say a number."), ("assistant", "first")]
    line = folder.lines()[1]
    assert (line["alternatives"], line["chosen"], line["heard"]) == (["first", "second"], 0, "first")
    assert "first *(answer 1 of 2)*" in folder.text("transcript.md")
    assert [update.item_id for update in folder.updates() if isinstance(update, up.ItemDeleted)]
    assert folder.session()["totals"]["turns"] == len(folder.lines()) == 4


def test_several_answers_at_once_and_what_they_took(tmp_path):
    with TextServer(answers("a"), answers("b"), answers("c")) as server:
        with open_session(server, tmp_path) as session, session.updates(LIMIT_S) as updates:
            session.send_text("Say a letter.", answers=3)
            while len(wait_for(updates, up.Alternatives).texts) < 3:
                pass
    folder = Folder(tmp_path)
    (_, line) = folder.lines()
    assert sorted(line["alternatives"]) == ["a", "b", "c"]
    assert line["text"] == line["alternatives"][line["chosen"]]
    assert folder.session()["usage"]["total_tokens"] == 30


def wait_for(updates: Any, kind: type[up.Update]) -> Any:
    return next(update for update in updates if isinstance(update, kind))


def test_what_is_taken_back_leaves_the_transcript_and_stays_in_the_journal(tmp_path):
    good, bad = answers("Good."), refuses(400, {"error": {"message": "not that"}})
    with TextServer(good, bad, answers("Better.")) as server:
        with open_session(server, tmp_path) as session:
            session.ask("one", timeout_s=LIMIT_S)
            with pytest.raises(ResponseFailedError, match="not that"):
                session.ask("two", timeout_s=LIMIT_S)
            session.ask("three", timeout_s=LIMIT_S)
            with session.updates(LIMIT_S) as updates:
                session.edit("four")
                wait_for(updates, up.ResponseDone)
    folder = Folder(tmp_path)
    assert folder.said() == [("user", "one"), ("assistant", "Good."), ("user", "four"), ("assistant", "Better.")]
    assert [line["n"] for line in folder.lines()] == sorted({line["n"] for line in folder.lines()})
    told = [update.text for update in folder.updates() if isinstance(update, up.ItemAdded)]
    assert told == ["one", "two", "three", "four"]
    assert "three" not in folder.text("transcript.vtt")
    assert folder.session()["errors"] == 1


def test_the_beginning_of_an_answer_that_nobody_ends_is_taken_back(tmp_path):
    dies = stream(delta("Well, "), sse({"error": {"message": "too much", "code": "content_filter"}}))
    with TextServer(dies) as server:
        with open_session(server, tmp_path) as session, pytest.raises(ResponseFailedError):
            session.ask("one", timeout_s=LIMIT_S)
    assert Folder(tmp_path).lines() == []


def test_words_and_calls_of_one_answer_are_turns_of_their_own(tmp_path):
    calls = [
        {"index": n, "id": f"call_{n}", "type": "function", "function": {"name": "add", "arguments": f'{{"n":{n}}}'}}
        for n in (0, 1)
    ]
    asks = stream(delta("Let me see."), delta(tool_calls=calls), delta(finish="tool_calls"), usage(), DONE)
    with TextServer(asks, answers("Three.")) as server:
        with open_session(server, tmp_path) as session:
            session.change(realtime_client.Changes(tools=(ToolSpec(name="add", description="", parameters={}),)))
            answer = session.ask("Add.", timeout_s=LIMIT_S)
            session.send_tool_result(answer.tool_calls[0].call_id, "1")
            result = answer.tool_calls[1].call_id
            session.next_answer(after=lambda: session.send_tool_result(result, "2"), timeout_s=LIMIT_S)
    folder = Folder(tmp_path)
    assert folder.said() == [
        ("user", "Add."), ("tool", 'add({"n":0})'), ("tool", 'add({"n":1})'), ("assistant", "Let me see."),
        ("tool", "1"), ("tool", "2"), ("assistant", "Three."),
    ] or folder.said() == [
        ("user", "Add."), ("assistant", "Let me see."), ("tool", 'add({"n":0})'), ("tool", 'add({"n":1})'),
        ("tool", "1"), ("tool", "2"), ("assistant", "Three."),
    ]  # fmt: skip


# --- a long session, on a clock of its own ----------------------------------------------------------------------------


def test_what_was_let_go_of_is_still_taken_back_at_the_end(tmp_path):
    recorder = Recorder.create(tmp_path, settings={})
    for n in range(300):
        recorder.noticed(up.ItemAdded(item_id=f"i{n}", role="user", item_type="message", text=f"t{n}", local=True), 1e6)
    recorder.noticed(up.ItemDeleted(item_id="i100"), 1e6)
    recorder.noticed(up.ItemDeleted(item_id="i299"), 1e6)
    recorder.noticed(up.ItemDeleted(item_id="never"), 1e6)
    recorder.close(ended="closed", stats={})
    folder = Folder(tmp_path)
    texts = [line["text"] for line in folder.lines()]
    assert texts == [f"t{n}" for n in range(299) if n != 100]
    assert folder.session()["totals"]["turns"] == 298


# --- kill -9 ----------------------------------------------------------------------------------------------------------

_VICTIM = """
import sys
import realtime_client, realtime_client.errors
from realtime_client import updates as up
with realtime_client.connect(model="openai/test", url=sys.argv[1], token="sk-1234567890", record_dir=sys.argv[2],
                             retry_delay_s=0.01) as session, session.updates(30) as updates:
    session.ask("one")
    session.retry()
    next(each for each in updates if isinstance(each, up.Alternatives))
    session.choose(0)
    try:
        session.ask("two")
    except realtime_client.errors.ResponseFailedError:
        pass
    session.ask("three")
    session.send_text("four")
    for update in updates:
        if isinstance(update, up.TextDelta) and len(update.text) > 60_000:
            print("now", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_recover_after_a_kill_gives_the_same_transcript(tmp_path):
    refused = refuses(400, {"error": {"message": "no"}})
    cut = in_turn(stream(delta("One, two"), drops))
    half = stream(delta(LONG[:8]), delta(LONG[8:]), silent)  # so much does not wait in memory for the next line
    with TextServer(answers("first"), answers("second"), refused, cut, answers(", three."), half) as server:
        command = [sys.executable, "-c", _VICTIM, server.url, str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as victim:
            try:
                assert victim.stdout is not None
                assert victim.stdout.readline() == "now\n"
                victim.send_signal(signal.SIGKILL)
                victim.wait(LIMIT_S)
            finally:
                victim.kill()
    folder = Folder(tmp_path)
    report = recover(folder.path)
    assert folder.said() == [
        ("user", "one"), ("assistant", "first"), ("user", "three"), ("assistant", "One, two, three."),
        ("user", "four"), ("assistant", LONG),
    ]  # fmt: skip
    lines = folder.lines()
    assert (lines[1]["alternatives"], lines[1]["chosen"]) == (["first", "second"], 0)
    assert [each["offset"] for each in lines[3]["sources"]] == [0, 8]
    assert lines[-1]["status"] == "killed"
    assert "One, two⟨openai/test⟩, three." in folder.text("transcript.md")
    assert folder.session()["state"] == "killed"
    assert report.turns == 6
    assert not [name for name in folder.files() if name.endswith(".wav")]
    assert recover(folder.path).complete


# --- realtime at first, in writing in the end -------------------------------------------------------------------------


def test_a_realtime_session_that_goes_on_in_writing_says_so_in_one_transcript_and_one_report(tmp_path):
    def script(peer: Peer) -> None:
        peer.greet()
        peer.send(type="session.updated", event_id="e", session=peer.receive("session.update")["session"])
        peer.receive("response.create")
        peer.answer("It is three.", "resp_1")
        peer.receive("conversation.item.create")
        peer.drop()

    with ScriptedServer(script) as realtime, TextServer(answers("It is ", "seven.")) as text:
        values = {
            "model": "gpt-realtime",
            "url": realtime.url,
            "fallback": "openai/test",
            "base_url": text.url,
            "fallback_after_s": 0.0,
        }
        with (
            realtime_client.connect(record_dir=str(tmp_path), api_key=KEY, **values) as session,
            session.updates(LIMIT_S) as updates,
        ):
            session.ask("One plus two?", timeout_s=LIMIT_S)
            session.send_text("Three plus four?")
            while wait_for(updates, up.ResponseDone).text != "It is seven.":
                pass
    folder = Folder(tmp_path)
    spoken, written = (line for line in folder.lines() if line["who"] == "assistant")
    assert "sources" not in spoken
    (source,) = written["sources"]
    assert (source["offset"], source["source"]) == (0, "openai/test")
    assert "⟨openai/test⟩It is seven." in folder.text("transcript.md")
    assert folder.session()["fallbacks"]
    models = read_session(folder.path).events.models
    assert [stretch.source for stretch in models.stretches][-1] == "openai/test"
    assert len({stretch.source for stretch in models.stretches}) == 2
    assert "goes on in writing" in write_report(folder.path).path.read_text()
    assert all(KEY not in folder.text(name) for name in folder.files())
