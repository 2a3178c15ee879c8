"""What a new session is told of a recorded one: read from journals and transcripts of all kinds, also of garbage."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from recording_helpers import Stage, sound

from realtime_client import updates as up
from realtime_client.errors import UsageError
from realtime_client.history import MOST_ENTRIES, Call, Result, Text
from realtime_client.protocol import events as ev
from realtime_client.protocol.items import Item
from realtime_client.recording import Recorder, journal_reader
from realtime_client.recording.carried import NEWEST, carry, read

ANSWER = "Your code word is heron, and I will not forget it."


def told(folder):
    """What is carried over, in short."""
    return [short(entry) for entry in read(folder).entries]


def short(entry):
    (part,) = entry.parts
    if isinstance(part, Call):
        return f"{entry.role} calls {part.name}({part.arguments}) as {part.call_id}"
    if isinstance(part, Result):
        return f"{entry.role} returns {part.output} of {part.name} to {part.call_id}"
    assert type(part) is Text
    assert part.heard is None
    return f"{entry.role}: {part.text}"


def spoken(stage, item_id, text, previous=None):
    stage.mic(sound(0.2))
    stage.committed(item_id, previous, text)


def talk(base, **given):
    """A spoken question, an answer to it, a typed one; not over yet."""
    stage = Stage(base, **given)
    spoken(stage, "u1", "My code word is heron.")
    stage.answer("a1", ANSWER, sound(2.0), "u1")
    stage.type("Thank you.")
    return stage


TALK = ["user: My code word is heron.", f"assistant: {ANSWER}", "user: Thank you."]


def test_a_spoken_session_is_carried_in_writing(tmp_path):
    stage = talk(tmp_path)
    stage.close()
    carried = read(stage.folder)
    assert [short(entry) for entry in carried.entries] == TALK
    assert [entry.id for entry in carried.entries] == ["told_1", "told_2", "told_3"], "none that a server has made"
    assert carried.told == f"{stage.folder.name} (3 entries)"


def killed(stage):
    """What a kill leaves: what had been flushed, and a torn line."""
    stage.recorder._journal.flush(stage.clock.now)
    folder = stage.folder.with_name("2026-01-01T00-00-00Z-dead")
    shutil.copytree(stage.folder, folder)
    with (folder / "journal.jsonl").open("ab") as file:
        file.write(b'{"n":99,"t":1.5,"dir":"note","event":{"type":"tu')
    stage.close()
    return folder


def test_a_session_that_was_killed_is_carried_to_its_last_word(tmp_path):
    stage = talk(tmp_path)
    stage.answer_begins("a2", "r2")
    stage.answer_text("a2", "r2", "You are ")
    stage.answer_text("a2", "r2", "wel")
    assert told(killed(stage)) == [*TALK, "assistant: You are wel"]


def test_an_answer_is_carried_as_it_was_heard(tmp_path):
    heard = {"a1": 1000}
    stage = talk(tmp_path, heard_ms=lambda item_id, _index: heard.get(item_id))
    stage.close()
    (line,) = [line for line in stage.lines() if line["item_id"] == "a1"]
    assert line["cut_ms"] == 1000
    assert told(stage.folder)[1] == f"assistant: {line['heard']}"
    assert "forget" not in line["heard"]


def call(item_id, call_id, arguments='{"place":"Rome"}', name="weather"):
    return up.ToolCall(response_id="r9", item_id=item_id, call_id=call_id, name=name, arguments=arguments)


def result(item_id, call_id, output, name="weather"):
    return up.ToolResult(call_id=call_id, name=name, output=output, item_id=item_id, response_id="r9")


def item(item_id, role, text="", **more):
    return up.ItemAdded(item_id=item_id, role=role, item_type="message", text=text, **more)


def out_of_band(text):
    part = {"response_id": "r8", "item_id": "a8"}
    return [
        up.ResponseStarted(response_id="r8", out_of_band=True),
        up.TextDone(**part, content_index=0, text=text),
        up.ResponseDone(response_id="r8", status="completed", text=text, item_ids=("a8",), out_of_band=True),
    ]


CASES = {
    "a call and its result": (
        [call("i1", "c1"), result("i2", "c1", "sunny")],
        ['assistant calls weather({"place":"Rome"}) as c1', "tool returns sunny of weather to c1"],
    ),
    "calls side by side, one result to come": (
        [call("i1", "c1"), call("i2", "c2", "{}"), result("i3", "c2", "")],
        ["assistant calls weather({}) as c2", "tool returns  of weather to c2"],
    ),
    "a call within an answer in words": (
        [
            up.TextDone(response_id="r9", item_id="i1", content_index=0, text="Let me see."),
            call("i1", "c1", name="a(b"),
            result("i2", "c1", "x", name="a(b"),
        ],
        [
            "assistant: Let me see.",
            'assistant calls a(b({"place":"Rome"}) as c1',
            "tool returns x of a(b to c1",
        ],
    ),
    "a result without its call": ([result("i2", "c1", "sunny")], []),
    "what was deleted": ([item("i1", "user", "No!", local=True), up.ItemDeleted(item_id="i1")], []),
    "what was deleted and stands there again": (
        [item("i1", "user", "No!", local=True), up.ItemDeleted(item_id="i1"), item("i1", "user", "No!", local=True)],
        ["user: No!"],
    ),
    "speech that was deleted": ([up.ItemDeleted(item_id="u1")], ["-u1"]),
    "an answer apart": (out_of_band("a summary"), []),
    "a word of the program": ([item("i1", "system", "It is night.", local=True)], ["system: It is night."]),
    "a new device": ([up.DeviceChanged(direction="input", device="USB", reason="plugged in")], []),
    "blank text": ([item("i1", "user", " \n", local=True)], []),
}


@pytest.mark.parametrize(("happened", "carried"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("source", ["journal", "transcript"])
def test_what_is_carried_of_what_happened(tmp_path, happened, carried, source):
    stage = talk(tmp_path)
    stage.notice(*happened)
    stage.close()
    expected = [*TALK, *carried]
    if "-u1" in expected:
        expected = TALK if source == "transcript" else TALK[1:]  # a transcript keeps what was heard in the room
    if source == "transcript":
        (stage.folder / "journal.jsonl").unlink()
    assert told(stage.folder) == expected


def test_speech_that_comes_late_stands_where_it_was_said(tmp_path):
    stage = Stage(tmp_path)
    stage.type("First.")
    spoken(stage, "u1", "Second.")
    stage.answer("a1", "Fourth.", sound(0.1), "u1")
    spoken(stage, "u2", "Third.", "u1")
    stage.close()
    assert told(stage.folder) == ["user: First.", "user: Second.", "user: Third.", "assistant: Fourth."]


def v1(folder):
    """The same recording as version 1 wrote it: without the words of updates, and without a first line."""
    journal = folder / "journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()[:-1]]
    kept = [{k: v for k, v in line.items() if k != "updates"} for line in lines if line["event"].get("type")]
    rows = [json.dumps(line, separators=(",", ":")) for line in kept if line["event"]["type"] != "journal"]
    journal.write_text("".join(row + "\n" for row in rows))
    info = json.loads((folder / "session.json").read_text())
    del info["continues"]
    (folder / "session.json").write_text(json.dumps(info | {"version": 1}))


def test_a_journal_of_version_1(tmp_path):
    stage = talk(tmp_path)
    stage.answer_begins("a2", "r2")
    stage.answer_text("a2", "r2", "You are wel")
    folder = killed(stage)
    v1(folder)
    assert told(folder) == [*TALK, "assistant: You are wel"]


# --- chains -----------------------------------------------------------------------------------------------------------


def following(base, before, *texts, delete=()):
    """A recording that goes on with another one."""
    recorder = Recorder.create(base, settings={"instructions": "Be kind."}, continues=before)
    for n, text in enumerate(texts):
        recorder.noticed(item(f"i{n}", "user", text, local=True), 1.0)
    for item_id in delete:
        recorder.noticed(up.ItemDeleted(item_id=item_id), 2.0)
    recorder.close(ended="closed", stats={})
    return recorder.folder


def test_what_goes_on_with_another_session_is_carried_with_it(tmp_path):
    stage = talk(tmp_path)
    stage.close()
    second = following(tmp_path, stage.folder.name, "Are you there?")
    assert told(second) == [*TALK, "user: Are you there?"]
    assert [line["text"] for line in map(json.loads, (second / "transcript.jsonl").read_text().splitlines())] == [
        f"continues {stage.folder.name}", "Are you there?",
    ]  # fmt: skip
    third = following(tmp_path, second.name, "Well?", delete=["told_4", "told_3"])
    assert told(third) == [*TALK[:2], "user: Well?"], "what left the conversation later is not told again"
    assert read(third).instructions == "Be kind."
    shutil.rmtree(stage.folder)
    assert told(second) == ["user: Are you there?"]
    assert f"(1 entry; without {stage.folder.name}, which is not there)" in read(second).told


@pytest.mark.parametrize("before", ["self", "..", "/etc", 7, None, "", "nowhere", "a\0b"])
def test_a_recording_that_says_odd_things_of_what_it_goes_on_with(tmp_path, before):
    folder = following(tmp_path, "", "Hi")
    info = json.loads((folder / "session.json").read_text())
    info["continues"] = folder.name if before == "self" else before
    (folder / "session.json").write_text(json.dumps(info))
    assert told(folder) == ["user: Hi"]


# --- garbage ----------------------------------------------------------------------------------------------------------

NOTE = {"done": True, "after": None, "received_ms": 0, "type": "turn"}
LINE = {
    "n": 1, "who": "user", "item_id": "x", "text": "X", "heard": "X", "cut_ms": None, "start_s": 0, "end_s": 0,
    "audio": None, "interrupted": False, "status": "completed",
}  # fmt: skip


def note(**changes):
    line = LINE | {name: value for name, value in changes.items() if name in LINE}
    event = NOTE | {name: value for name, value in changes.items() if name not in LINE} | {"line": line}
    return {"n": 9, "t": 1.0, "dir": "note", "event": event}


GARBAGE = [
    b"", b"\0" * 100, b"null", b"[]", b"7", b'"text"', b"{}", b"{" * 5_000, b"[" * 100_000, b"\xff\xfe", b'{"n":',
    *(json.dumps(each).encode() for each in [
        note(n="1"), note(n=1.5), note(n=None), note(item_id=[1]), note(item_id=None), note(after=[1]), note(text=7),
        note(who="admin"), note(who=None), note(heard=7), note(text="", cut_ms="x"), note(text="", heard=None),
        {"n": 9, "t": 1.0, "dir": "note", "event": {"type": "turn", "line": 7}},
        {"n": 9, "t": 1.0, "dir": "note", "event": {"type": "turn"}},
        {"n": 9, "t": 1.0, "dir": "in", "event": NOTE | {"line": LINE}, "updates": []},
        {"n": 9, "t": 1.0, "dir": "out", "event": NOTE | {"line": LINE}},
        LINE | {"n": "y", "text": 7}, LINE | {"who": 7}, LINE | {"heard": []}, LINE | {"who": "tool", "call_id": 7},
    ]),
]  # fmt: skip


@pytest.mark.parametrize("name", ["journal.jsonl", "transcript.jsonl"])
def test_lines_that_are_none_cost_only_themselves(tmp_path, name):
    stage = talk(tmp_path)
    stage.close()
    if name != "journal.jsonl":
        (stage.folder / "journal.jsonl").unlink()
    path = stage.folder / name
    good = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*GARBAGE, *good[:3], *GARBAGE[1:12], *good[3:]]) + b"\n")
    assert [each for each in told(stage.folder) if each in TALK] == TALK


@pytest.mark.parametrize("raw", GARBAGE)
@pytest.mark.parametrize("name", ["journal.jsonl", "transcript.jsonl", "session.json"])
def test_a_file_of_garbage(tmp_path, name, raw):
    stage = talk(tmp_path)
    stage.close()
    (stage.folder / name).write_bytes(raw + b"\n")
    assert told(stage.folder) in (TALK, [], ["user: X"]), "from the other file, or nothing"


def test_a_journal_of_a_newer_version_is_refused(tmp_path):
    stage = talk(tmp_path)
    stage.close()
    for name in ("journal.jsonl", "session.json"):
        path = stage.folder / name
        path.write_text(
            path.read_text().replace('"version":2', '"version":99').replace('"version": 2', '"version": 99')
        )
        with pytest.raises(UsageError, match=r"newer version \(format 99"):
            read(stage.folder)
        path.write_text(
            path.read_text().replace('"version":99', '"version":2').replace('"version": 99', '"version": 2')
        )
    assert told(stage.folder) == TALK


def flood(path, rows):
    with path.open("wb") as file:
        for row in rows:
            file.write(row + b"\n")


@pytest.mark.parametrize("name", ["journal.jsonl", "transcript.jsonl"])
@pytest.mark.parametrize(("count", "size"), [(5_000, 10), (60, 1_000_000)])
def test_no_more_is_kept_than_a_conversation_may_hold(tmp_path, name, count, size):
    text = "x" * size
    lines = ({"n": n, "item_id": f"i{n}", "text": text, "heard": f"{n} {text}"} for n in range(count))
    whole = (LINE | line if name.startswith("t") else note(**line) for line in lines)
    folder = tmp_path / "flood"
    folder.mkdir()
    flood(folder / name, (json.dumps(line, separators=(",", ":")).encode() for line in whole))
    carried = read(folder)
    assert len(carried.entries) <= MOST_ENTRIES
    assert short(carried.entries[-1]).startswith(f"user: {count - 1} ")
    assert carried.clipped
    assert "the last " in carried.told
    assert sum(len(entry.said) for entry in carried.entries) <= 4 * 1024 * 1024


@pytest.mark.parametrize("block", [1, 7, 100, 5_000, 1 << 20])
def test_lines_are_found_wherever_blocks_end(tmp_path, monkeypatch, block):
    stage = talk(tmp_path)
    folder = killed(stage)
    monkeypatch.setattr(journal_reader, "_BLOCK_BYTES", block)
    wanted = (b'"turn"', b'"text_delta"')
    raw = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)[:-1]
    expected = [journal_reader.read_line(line) for line in raw if any(each in line for each in wanted)]
    assert len(expected) > 5
    assert list(journal_reader.read_journal(folder / "journal.jsonl", wanted)) == expected
    assert told(folder) == TALK


# --- which one --------------------------------------------------------------------------------------------------------

NAMES = ["2026-11-20T14-50-02Z-7f3a", "2026-11-20T15-00-00Z-0b1c", "2026-10-01T00-00-00Z-7f99", "before the trip"]


@pytest.fixture
def base(tmp_path):
    """Some recordings, each with its name as what was said; one in which nothing was, and a folder of another kind."""
    base = tmp_path / "recordings"
    (base / "notes").mkdir(parents=True)
    (base / "README.md").write_text("none")
    for n, name in enumerate(NAMES):
        folder = base / name
        folder.mkdir()
        (folder / "transcript.jsonl").write_text(json.dumps(LINE | {"text": name, "heard": name}) + "\n")
        (folder / "session.json").write_text(json.dumps({"session_id": f"sess_{n}", "state": "ended"}))
    empty = base / "2026-12-01T00-00-00Z-0000"
    empty.mkdir()
    (empty / "transcript.jsonl").touch()
    running = base / "2026-12-02T00-00-00Z-1111"
    shutil.copytree(base / NAMES[0], running)
    (running / "session.json").write_text(json.dumps({"state": "running", "pid": os.getpid()}))
    return base


@pytest.mark.parametrize(
    ("which", "name"),
    [
        (NEWEST, NAMES[1]),
        (NAMES[2], NAMES[2]),
        ("2026-10", NAMES[2]),
        ("2026-11-20T14", NAMES[0]),
        ("7f3a", NAMES[0]),
        ("before", NAMES[3]),
        ("sess_1", NAMES[1]),
        ("2026-12-02", NAMES[0]),
    ],
)
def test_which_recording_is_meant(base, which, name):
    assert told_by(which, base) == name


def told_by(which, base):
    (entry,) = carry(which, base).entries
    return entry.said


def test_a_folder_is_meant_by_its_path(base, tmp_path, monkeypatch):
    assert told_by(str(base / NAMES[0]) + "/", tmp_path / "elsewhere") == NAMES[0]
    assert told_by(base / NAMES[0], tmp_path / "elsewhere") == NAMES[0]
    monkeypatch.chdir(base / NAMES[3])
    assert told_by(".", tmp_path / "elsewhere") == NAMES[3]
    assert carry(".", base).folder.name == NAMES[3]


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("2026-11", f"2 recordings are called 2026-11...: {NAMES[1]}, {NAMES[0]}"),
        ("sess_", "4 recordings are called sess_"),
        ("nothing", "there is no recording nothing in"),
        ("nothing", f"there are 2026-12-02T00-00-00Z-1111, 2026-12-01T00-00-00Z-0000, {NAMES[1]}"),
        ("", "go on with which session?"),
        ("a\0b\x1b[2J", "there is no recording ab[2J in"),
        ("~nobody-of-that-name/x", "there is no recording ~nobody"),
        ("x" * 5_000, "there is no recording xxx"),
        ("2026-12-01", "nothing was said in"),
        ("{base}", "is not a recording: neither journal.jsonl nor transcript.jsonl is in it"),
        ("{base}/notes", "is not a recording"),
    ],
)
def test_one_line_says_why_there_is_none(base, which, words):
    with pytest.raises(UsageError) as error:
        carry(which.format(base=base), base)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert "\x1b" not in str(error.value)


@pytest.mark.parametrize("there", ["missing", "empty", "a file"])
def test_where_there_are_no_recordings(tmp_path, there):
    base = tmp_path / "recordings"
    if there == "empty":
        base.mkdir()
    elif there == "a file":
        base.touch()
    with pytest.raises(UsageError, match=r"there is no recording in .* in which something was said"):
        carry(NEWEST, base)
    with pytest.raises(UsageError, match=r"there is no recording x in .*; there is none"):
        carry("x", base)


def test_a_recording_that_may_not_be_read(base, monkeypatch):
    """Whoever runs the tests may be allowed to read everything."""
    usual = Path.open

    def refuse(path, *args, **more):
        if path.name == "transcript.jsonl":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return usual(path, *args, **more)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UsageError, match=r"cannot read .*: Permission denied"):
        carry(NAMES[0], base)


def test_links_in_a_circle(tmp_path):
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(UsageError):
        carry(Path(tmp_path / "circle"), tmp_path)


@pytest.mark.parametrize(
    ("given", "in_force", "carried"),
    [
        ("Be brief.", "Be brief.", "Be brief."),
        ("Be brief.", "Be long.", "Be long."),
        ("Be brief.", None, "Be brief."),
        (None, "You are a helpful assistant of this server.", ""),
        (7, 8, ""),
    ],
)
def test_the_instructions_are_the_users(tmp_path, given, in_force, carried):
    folder = following(tmp_path, "", "Hi")
    info = json.loads((folder / "session.json").read_text())
    info |= {"settings": {"instructions": given}, "session": {"instructions": in_force}}
    (folder / "session.json").write_text(json.dumps(info))
    assert read(folder).instructions == carried


def test_unwritten_speech_and_items_of_servers_are_left_out(tmp_path):
    stage = Stage(tmp_path, transcribe=False)
    stage.mic(sound(0.2))
    stage.committed("u1")
    done = Item(type="mcp_call", id="m1", name="search", arguments="{}", output="found", server_label="x")
    stage.hear(ev.ConversationItemAdded(item=done, previous_item_id="u1"))
    stage.hear(ev.ConversationItemDone(item=done, previous_item_id="u1"))
    stage.answer("a1", "Found.", sound(0.1), "m1")
    stage.close()
    assert told(stage.folder) == ["assistant: Found."]
