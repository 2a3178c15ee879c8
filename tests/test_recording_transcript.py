"""The transcript's files: what is in them, when, and in which order."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recording_helpers import RATE, Stage, sound

from realtime_client import updates as up
from realtime_client.protocol import events as ev
from realtime_client.protocol.items import Item, user_text
from realtime_client.recording.turns import LONGEST_TEXT, MOST_PARTS, Said, Turn, joined

KINDS = ("jsonl", "md", "srt", "vtt")


def texts(stage):
    return [line["text"] for line in stage.lines()]


def in_all(stage, text):
    return [kind for kind in KINDS if text in (stage.folder / f"transcript.{kind}").read_text()] == list(KINDS)


# --- as soon as it is over --------------------------------------------------------------------------------------------


def test_an_answer_is_in_the_files_when_it_is_done_though_it_still_sounds(tmp_path):
    stage = Stage(tmp_path, heard_ms=lambda _item, _part: 400)
    stage.type("Tell me.")
    assert in_all(stage, "Tell me.")
    stage.answer("a1", "A long answer that takes a while to say.", sound(20.0, 3000))
    assert in_all(stage, "A long answer")
    stage.type("Stop.")  # the line of the cut answer changes, where it stands
    assert texts(stage) == ["Tell me.", "A long answer that takes a while to say.", "Stop."]
    assert (stage.lines()[1]["cut_ms"], stage.lines()[1]["heard"]) == (400, "")
    assert "takes a while" not in (stage.folder / "transcript.vtt").read_text()
    stage.close()
    assert stage.lines()[1]["interrupted"]


def test_an_answer_of_text_alone_is_there_at_once(tmp_path):
    stage = Stage(tmp_path, vad=False)
    part = stage.part("a1", "r1")
    stage.type("Hello?")
    stage.hear(ev.ResponseCreated(response=ev.Response(id="r1", status="in_progress")))
    stage.hear(ev.ResponseOutputTextDelta(**part, delta="Good "))
    stage.hear(ev.ResponseOutputTextDone(**part, text="Good day."))
    assert texts(stage) == ["Hello?"]
    stage.hear(ev.ResponseDone(response=ev.Response(id="r1", status="completed", output=[])))
    assert in_all(stage, "Good day.")
    stage.close()


def test_a_turn_is_written_once_and_tells_why_only_where_it_is_not_whole(tmp_path):
    stage = Stage(tmp_path)
    stage.type("Tell me.")
    transcript, now = stage.recorder._transcript, stage.clock.now
    assert not transcript.settle(now), "nothing is new"
    transcript.begin("tool", "item_t")
    assert [transcript.settle(now, everything=True) for _ in range(2)] == [True, False]
    stage.close()
    for status, told in (("completed", None), ("in_progress", None), ("incomplete", "too long")):
        assert Turn(1, "assistant", status=status, reason="too long").line().get("reason") == told
    assert "reason" not in Turn(1, "assistant", status="incomplete").line()


def test_an_answer_does_not_wait_for_what_the_user_was_heard_to_say(tmp_path):
    stage = Stage(tmp_path)
    stage.mic(sound(1.0))
    stage.hear(ev.InputAudioBufferSpeechStarted(item_id="u1", audio_start_ms=0))
    stage.hear(ev.InputAudioBufferSpeechStopped(item_id="u1", audio_end_ms=900))
    stage.committed("u1")
    stage.answer("a1", "Sure.", sound(0.5), "u1")
    assert texts(stage) == ["Sure."]
    stage.transcript("u1", "Please?")
    assert texts(stage) == ["Please?", "Sure."]
    srt = (stage.folder / "transcript.srt").read_text()
    assert srt.startswith("1\n")
    assert srt.index("Please?") < srt.index("\n2\n") < srt.index("Sure.")
    stage.close()


def test_text_that_comes_only_with_the_whole_response(tmp_path):
    stage = Stage(tmp_path)
    for i, output in enumerate(
        ([], [Item(type="message", id="a9", role="assistant", content=user_text("x").content)], None)
    ):
        update = up.ResponseDone(
            response_id=f"r{i}",
            status="completed",
            text=f"answer {i}",
            item_ids=tuple(item.id for item in output or ()),
        )
        stage.notice(update)
    assert texts(stage) == ["answer 0", "answer 1", "answer 2"]
    stage.close()


def test_the_files_are_the_same_whether_changed_or_written_anew(tmp_path):
    """A hundred turns in any order, changed in any order: what the files say in the end is what they say at once."""
    stage = Stage(tmp_path)
    for i in range(100):
        stage.mic(sound(2.4), block=9600)
        stage.hear(ev.InputAudioBufferSpeechStarted(item_id=f"u{i}", audio_start_ms=i * 2400))
        stage.hear(ev.InputAudioBufferSpeechStopped(item_id=f"u{i}", audio_end_ms=i * 2400 + 1100))
        stage.committed(f"u{i}", f"a{i - 1}" if i else None)
        stage.answer(f"a{i}", f"Answer {i}.", sound(1.1), f"u{i}")
        if i >= 4:
            stage.transcript(f"u{i - 4}", f"Said {i - 4}.")
        assert len(stage.lines()) >= 2 * (i - 4)
    for i in range(96, 100):
        stage.transcript(f"u{i}", f"Said {i}.")
    before = {kind: (stage.folder / f"transcript.{kind}").read_text() for kind in KINDS}
    stage.close()
    expected = [text for i in range(100) for text in (f"Said {i}.", f"Answer {i}.")]
    assert texts(stage) == expected
    assert [json.loads(row)["text"] for row in before["jsonl"].splitlines()] == expected
    for kind in KINDS:
        text = (stage.folder / f"transcript.{kind}").read_text()
        assert [text.index(each) for each in expected] == sorted(text.index(each) for each in expected), kind
        assert before[kind].count("Said 50.") == (2 if kind == "jsonl" else 1)


# --- what became of it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ends", "reason", "shown"),
    [
        (lambda stage: stage.notice(up.ConnectionLost(code=1006, reason="gone")), "lost", "the connection was lost"),
        (lambda stage: None, "ended", "the session ended"),
        (
            lambda stage: stage.hear(
                ev.ResponseDone(
                    response=ev.Response(
                        id="r1",
                        status="incomplete",
                        status_details=ev.StatusDetails(type="incomplete", reason="max_output_tokens"),
                        output=[],
                    )
                )
            ),
            "max_output_tokens",
            "max\\_output\\_tokens",
        ),
    ],
)
def test_a_turn_that_was_cut_off_says_so_and_keeps_its_text(tmp_path, ends, reason, shown):
    stage = Stage(tmp_path)
    stage.answer_begins("a1", "r1")
    stage.answer_text("a1", "r1", "This is how far ")
    stage.answer_audio("a1", "r1", sound(0.5))
    ends(stage)
    stage.close()
    (line,) = stage.lines()
    assert (line["text"], line["status"], line["reason"]) == ("This is how far ", "incomplete", reason)
    assert (
        f"This is how far *({'cut off: ' if reason in {'lost', 'ended'} else ''}{shown})*"
        in (stage.folder / "transcript.md").read_text()
    )
    assert "This is how far" in (stage.folder / "transcript.srt").read_text()


def test_a_lost_connection_is_told_at_once_and_the_next_session_goes_on(tmp_path):
    stage = Stage(tmp_path)
    stage.mic(sound(1.0))
    stage.hear(ev.InputAudioBufferSpeechStarted(item_id="u1", audio_start_ms=500))
    stage.answer_begins("a1", "r1")
    stage.answer_text("a1", "r1", "Half a")
    stage.notice(up.ConnectionLost(code=1006, reason="gone"))
    assert [(line["text"], line["reason"]) for line in stage.lines()] == [("Half a", "lost")]
    stage.wait(1)
    stage.hear(ev.SessionCreated(session=stage.session))
    stage.answer("a2", "Back again.", sound(0.5))
    stage.close()
    assert [(line["text"], line["status"], line.get("reason")) for line in stage.lines()] == [
        ("", "incomplete", "lost"),
        ("Half a", "incomplete", "lost"),
        ("Back again.", "completed", None),
    ]


# --- order ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", [3, 80])
def test_answers_that_no_item_announces_stand_where_they_came(tmp_path, turns):
    """A server that sends response.output_item.added alone; what is typed next names the last item it announced."""
    stage = Stage(tmp_path)
    previous = None
    for i in range(turns):
        stage.notice(
            up.ItemAdded(
                item_id=f"u{i}", role="user", item_type="message", text=f"q{i}", previous_item_id=previous, local=True
            )
        )
        part = {"response_id": f"r{i}", "item_id": f"a{i}", "content_index": 0}
        stage.notice(
            up.TextDelta(**part, text=f"a{i}"),
            up.ResponseDone(response_id=f"r{i}", status="completed", item_ids=(f"a{i}",)),
        )
        previous = f"u{i}"
        stage.wait(0.1)
        assert texts(stage)[-1] == f"a{i}"
    stage.close()
    assert texts(stage) == [text for i in range(turns) for text in (f"q{i}", f"a{i}")]


# --- text in pieces ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        (["+Hel", "+lo.", "=Hello."], "Hello."),
        (["=Hello."], "Hello."),
        (["=Hello.", "=How are you?"], "Hello. How are you?"),
        (["+Hel", "=Hello.", "+ How", "=How are you?"], "Hello. How are you?"),
        (["=Hello.", "=Hello. How are you?"], "Hello. How are you?"),
        (["+Hello.", "=Hello.", "=Hello."], "Hello."),
        (["=Hello.", "+ And", "+ more"], "Hello. And more"),
        (["+Hello, you", "=Hello."], "Hello."),
        (["+Hello.", "="], "Hello."),
        (["=\u4f60\u597d\u3002", "=\u518d\u89c1\u3002"], "\u4f60\u597d\u3002\u518d\u89c1\u3002"),
        (["=One.", "=Two.", "!Two."], "One. Two."),
        (["=One.", "=Two.", "!One. Two.\nThree."], "One. Two.\nThree."),
        (["+One", "!"], "One"),
    ],
)  # fmt: skip
def test_several_words_that_a_text_is_whole(steps, text):
    said = Said()
    for step in steps:
        {"+": said.add, "=": said.whole, "!": said.final}[step[0]](step[1:])
    assert said.text == text
    assert bool(said)


def test_several_transcripts_of_one_item_are_all_kept(tmp_path):
    stage = Stage(tmp_path)
    stage.transcript("u1", "First this.")
    stage.transcript("u1", "Then that.")
    stage.close()
    assert texts(stage) == ["First this. Then that."]


@given(st.lists(st.tuples(st.sampled_from("+=!"), st.text(max_size=9), st.integers(-3, 10**30)), max_size=40))
def test_any_text_in_any_pieces_is_bounded(steps):
    said = Said()
    for kind, text, part in steps:
        if kind == "!":
            said.final(text * 9000)
        else:
            (said.add if kind == "+" else said.whole)(text * 9000, part)
        assert len(said.text) <= LONGEST_TEXT
    assert len(said._done.keys() | said._open.keys()) <= MOST_PARTS


def test_pieces_are_put_together_as_their_script_does():
    assert joined("a.", "b") == "a. b"
    assert joined("a. ", "b") == "a. b"
    assert joined("\u4f60", "\u597d") == "\u4f60\u597d"


# --- a kill at any moment ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate_hz", [24_000, 16_000])
def test_the_users_sound_is_on_disk_a_tenth_of_a_second_after_it_was_sent(tmp_path, rate_hz):
    """At each moment of three seconds, beside an answer: the files as they are on disk."""
    stage = Stage(tmp_path, fmt={"type": "audio/pcm", "rate": rate_hz})
    said = sound(3.0, 2000, rate_hz)
    block = rate_hz // 50 * 2
    stage.answer_begins("a1", "r1")
    for at in range(0, len(said), block):
        stage.mic(said[at : at + block], block=block, rate=rate_hz * 2)
        if at == 20 * block:
            stage.answer_audio("a1", "r1", sound(1.0, 3000, rate_hz))
        left, _ = stage.stereo()
        sent_s = (at + block) / (2 * rate_hz)
        assert np.count_nonzero(left) / RATE >= sent_s - (0.11 if rate_hz == RATE else 0.2)
    stage.close()
    left, right = stage.stereo()
    if rate_hz == RATE:
        assert left[np.flatnonzero(left)[0] :].tobytes()[: len(said)] == said
        assert np.count_nonzero(right) == RATE


# --- cut before the first sound ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False], ids=["its item is known", "its item comes later"])
def test_an_answer_that_was_cut_before_its_first_sound_was_not_heard(tmp_path, named):
    stage = Stage(tmp_path, heard_ms=lambda _item, _part: 0)
    stage.type("Tell me.")
    where = {"response_id": "r1", "item_id": "a1", "output_index": 0, "content_index": 0}
    stage.hear(ev.ResponseCreated(response=ev.Response(id="r1")))
    if named:
        stage.hear(ev.ResponseOutputAudioTranscriptDelta(**where, delta="Once"))
    stage.type("Stop.")
    stage.hear(ev.ResponseOutputAudioTranscriptDone(**where, transcript="Once upon a time"))
    stage.hear(ev.ResponseDone(response=ev.Response(id="r1", status="cancelled")))
    stage.close()
    who, line = [each["who"] for each in stage.lines()], stage.lines()[1]
    assert who == ["user", "assistant", "user"]
    assert (line["text"], line["heard"], line["cut_ms"], line["interrupted"]) == ("Once upon a time", "", 0, True)
