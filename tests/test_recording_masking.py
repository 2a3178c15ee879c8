"""Secrets are in no file and in no log line, and what is no secret is there."""

import json
import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recording_helpers import Stage, sound

from realtime_client import logs
from realtime_client import updates as up
from realtime_client.protocol import events as ev
from realtime_client.protocol.items import Item
from realtime_client.recording.masking import Masker
from realtime_client.report import write_report
from realtime_client.secret import Secrets

SHORT = ["x", "text", "user", "id", "in", "1", "a", "***", "type", "turn", "item_id"]
WORDS = ["response", "transcript", "completed", "assistant", "response_id", "conversation", "audio_format", "item_id_x"]
KEY = "sk-proj-THE-KEY-0123456789"


def acted_out(base, *secrets):
    """A session with all that a transcript can hold."""
    stage = Stage(base, secrets=secrets, heard_ms=lambda _item, _part: 300)
    stage.mic(sound(1.0))
    stage.hear(ev.InputAudioBufferSpeechStarted(item_id="u1", audio_start_ms=100))
    stage.hear(ev.InputAudioBufferSpeechStopped(item_id="u1", audio_end_ms=900))
    stage.committed("u1", None, "a user said this text")
    stage.answer("a1", "The assistant completed its response.", sound(1.0, 3000), "u1")
    call = Item(type="function_call", id="f1", call_id="c1", name="text_user", arguments='{"x": 1}', status="completed")
    stage.hear(ev.ConversationItemAdded(item=call, previous_item_id="a1"))
    stage.hear(ev.ResponseOutputItemDone(response_id="r2", output_index=0, item=call))
    stage.hear(ev.ResponseDone(response=ev.Response(id="r2", status="completed", output=[call])))
    stage.type("my own text")
    stage.raw(
        b'{"type":"response.output_text.done","response_id":"r\\u0033","item_id":"a2","text":"so \\u00e9","output_index":0,"content_index":0}'
    )
    stage.notice(up.ConnectionLost(code=1006, reason="gone"))
    stage.close()
    return stage


def structure(value):
    """Everything but free text: names, and the strings under those names that are no free text."""
    fixed = {
        "type",
        "id",
        "role",
        "status",
        "who",
        "dir",
        "file",
        "audio",
        "kind",
        "cause",
        "object",
        "state",
        "reason",
    }
    if isinstance(value, dict):
        return {
            key: entry if isinstance(entry, str) and (key in fixed or key.endswith("_id")) else structure(entry)
            for key, entry in value.items()
            if key not in {"event_id", "request_id"}
        }
    if isinstance(value, list):
        return [structure(entry) for entry in value]
    return "" if isinstance(value, str) else 0 if isinstance(value, float) else value


def made_up(lines):
    """Ids that are random, by the order in which they come."""
    text = json.dumps(lines)
    for i, found in enumerate(dict.fromkeys(re.findall(r"item_[0-9a-f]{20}", text))):
        text = text.replace(found, f"made-up-{i}")
    return json.loads(text)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    stage = acted_out(tmp_path_factory.mktemp("plain"))
    plain = {name: structure(made_up(stage.lines(name))) for name in ("journal.jsonl", "transcript.jsonl")}
    return {**plain, "session.json": stage.session_json().keys()}


@pytest.mark.parametrize("secret", [*SHORT, *WORDS])
def test_a_key_that_is_a_word_leaves_the_structure_alone(tmp_path, plain, secret):
    stage = acted_out(tmp_path, secret)
    for name in ("journal.jsonl", "transcript.jsonl"):
        assert structure(made_up(stage.lines(name))) == plain[name]
    assert stage.session_json().keys() == plain["session.json"]
    assert not write_report(stage.folder).problems


def test_short_keys_leave_what_was_said_alone(tmp_path):
    stage = acted_out(tmp_path, "x", "text", "user", "said")
    assert [line["text"] for line in stage.lines()][:2] == [
        "a user said this text",
        "The assistant completed its response.",
    ]


@pytest.mark.parametrize(
    ("secret", "text", "masked"),
    [
        ("x", "an x here, xylophone", None),
        ("user", "the user of https://host/user", None),
        ("x", "wss://x@host/v1", "wss://***@host/v1"),
        ("user", "wss://me:user@host/v1", "wss://me:***@host/v1"),
        ("user", "wss://user:pass@host/v1", "wss://***:pass@host/v1"),
        ("x", "http://host/?a=1&key=x&b=xx", "http://host/?a=1&key=***&b=xx"),
        ("a b", "http://host/?key=a%20b", "http://host/?key=***"),
        ("x", "Authorization: Bearer x", "Authorization: Bearer ***"),
        ("x", 'api-key: "x", text', 'api-key: "***", text'),
        ("text", "Incorrect API key provided: text.", "Incorrect API key provided: ***."),
        ("text", "token=text; tokentext", "token=***; tokentext"),
        (KEY, f"key {KEY}!", "key ***!"),
        ("a/b+c=d12", "http://host/?key=a%2Fb%2Bc%3Dd12", "http://host/?key=***"),
        ("12345678", "pin 12345678", "pin ***"),
    ],
)
def test_text_is_masked_where_a_secret_can_stand(secret, text, masked):
    expected = masked or text
    assert Secrets([secret]).text(text) == expected
    assert (
        json.loads(Masker([secret]).frame(json.dumps({"type": "error", "message": text}).encode()))["message"]
        == expected
    )
    assert Masker([secret]).value({"message": text}) == {"message": expected}
    assert logs.scrub({"message": text}, (secret,))["message"] in {expected, expected.replace("Bearer ***", "***")}


@pytest.mark.parametrize(
    ("frame", "masked"),
    [
        (b'{"type" : "x", "api_key" : "x" , "n":1e2}', b'{"type" : "x", "api_key" : "***" , "n":1e2}'),
        (b'{"my_token":"a x b","key":"x","monkey":"x"}', b'{"my_token":"a *** b","key":"***","monkey":"x"}'),
        (b'{"a":[{"password":["x","y"]},"x"]}', b'{"a":[{"password":["***","y"]},"x"]}'),
        (b'{"max_output_tokens":"x","text":"x"}', None),
        (b'{"HEADERS":{"A":"b","n":[1,null,""]},"b":"b"}', b'{"HEADERS":{"A":"***","n":["***",null,""]},"b":"b"}'),
        (b'{"x":"12345678 x","headers":{"k":"12345678"},"y":["12345678"]}', b'{"x":"*** x","headers":{"k":"***"},"y":["***"]}'),
        (b'{"message":"12345678","authorization":"Bearer 12345678"', b'{"message":"***","authorization":"***"'),
        (b'["authorization",{"\\u0061uthorization":"12345678"}]', b'["authorization",{"\\u0061uthorization":"***"}]'),
    ],
)  # fmt: skip
def test_of_a_frame_only_what_is_secret_changes(frame, masked):
    assert Masker(["x"]).frame(frame) == (frame if masked is None else masked)


def test_a_key_as_a_name_or_an_id_is_masked_all_the_same():
    masked = json.loads(Masker([KEY]).frame(json.dumps({KEY: 1, "item_id": KEY, "type": f"a {KEY}"}).encode()))
    assert masked == {"***": 1, "item_id": "***", "type": "a ***"}


@given(st.binary(max_size=120), st.sampled_from(["x", "user", KEY]))
def test_masking_takes_any_bytes(noise, secret):
    masker = Masker([secret])
    masker.frame(noise)
    masker.frame(b'{"headers":{"k":"' + noise + b'"},"a":"' + noise)
    frame = b'{"a":"' + secret.encode() + b'"' + noise
    assert KEY.encode() not in masker.frame(frame)


def test_what_a_server_calls_secret_does_not_fill_the_memory():
    masker = Masker()
    for i in range(400):
        masker.frame(json.dumps({"headers": {"a": f"{i:09}", "b": "x" * 10_000 + str(i)}}).encode())
    assert len(masker._secrets.long) == 256
    assert max(map(len, masker._secrets.long)) <= 4_096


def test_a_frame_of_any_depth_is_masked():
    frame = b'{"a":' + b"[" * 5000 + b'"\\u0073k-proj-THE-KEY-0123456789"' + b"]" * 5000 + b"}"
    assert KEY.encode() not in Masker([KEY]).frame(frame)
    assert b"***" in Masker([KEY]).frame(frame)


@pytest.mark.parametrize("secret", ["x", "session", "info", "realtime_client", "session_started", "event"])
def test_log_lines_keep_their_structure(tmp_path, secret):
    path = tmp_path / "log"
    with logs.configured("info", file=path, as_json=True, secrets=(secret,)):
        logs.Log("session").info("session_started", item_id="item_x", note=f"x and text, api key {secret}", api_key="k")
    line = json.loads(path.read_text())
    assert (line["event"], line["level"], line["logger"]) == ("session_started", "info", "realtime_client.session")
    assert (line["item_id"], line["api_key"]) == ("item_x", "***")
    assert line["note"] == "x and text, api key ***"


def test_a_log_line_of_many_depths_does_not_end_the_session(tmp_path):
    deep = []
    for _ in range(5_000):
        deep = [deep]
    path = tmp_path / "log"
    with logs.configured("info", file=path, as_json=True):
        logs.Log("session").info("deep", what=deep)
        assert logging.getLogger(logs.ROOT).handlers
    assert json.loads(path.read_text())["event"] == "deep"
