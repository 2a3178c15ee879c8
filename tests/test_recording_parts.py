"""The parts of the recorder one by one: WAV files, timeline, journal, masks, transcript forms."""

import itertools
import json
import wave

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from recording_helpers import RATE, HandClock, Stage, sound

from realtime_client import updates as up
from realtime_client.protocol import codec
from realtime_client.protocol import events as ev
from realtime_client.protocol.media import media_of
from realtime_client.recording import render
from realtime_client.recording.folder import folder_name, replace_file
from realtime_client.recording.journal import Journal
from realtime_client.recording.journal_line import AudioPlace
from realtime_client.recording.masking import Masker
from realtime_client.recording.timeline import JITTER, RATE_HZ, Timeline
from realtime_client.recording.wav import HEADER_BYTES, WavWriter, header, repair_wav, write_all

# --- WAV --------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 30_000), max_size=12), st.sampled_from([8000, 24_000]), st.sampled_from([1, 2]))
def test_wav_opens_at_every_moment(tmp_path_factory, sizes, rate_hz, channels):
    path = tmp_path_factory.mktemp("wav") / "a.wav"
    writer = WavWriter(path, rate_hz, channels)
    said = b""
    for size in sizes:
        pcm = sound(size / rate_hz, rate_hz=rate_hz)[: size * 2 // writer.frame_bytes * writer.frame_bytes]
        writer.write(pcm)
        said += pcm
        with wave.open(str(path)) as file:
            there = file.readframes(file.getnframes())
        assert said.startswith(there)
        assert len(said) - len(there) <= 0.5 * rate_hz * writer.frame_bytes
    writer.close()
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels()) == (rate_hz, channels)
        assert file.readframes(file.getnframes()) == said
    assert len(soundfile.read(path)[0]) == len(said) // writer.frame_bytes


def test_every_byte_is_written_however_little_is_taken_at_once():
    taken: list[bytes] = []

    class Drip:
        """Takes nothing, then three bytes, in turn."""

        turn = 0

        def write(self, data):
            self.turn += 1
            if self.turn % 2:
                return None
            taken.append(bytes(data[:3]))
            return len(taken[-1])

    write_all(Drip(), b"abcdefgh")
    assert taken == [b"abc", b"def", b"gh"]


def test_wav_reads_overwrites_and_cuts(tmp_path):
    writer = WavWriter(tmp_path / "a.wav", RATE)
    writer.write(sound(0.1))
    assert writer.read(0, 100) == sound(0.1)[:100]
    assert writer.read(4_700, 1_000) == sound(0.1)[4_700:]
    writer.overwrite(0, bytes(100))
    writer.write_silence(10)
    writer.write(b"\1\1")
    assert writer.read(0, 1 << 20) == bytes(100) + sound(0.1)[100:] + bytes(20) + b"\1\1"
    writer.truncate(200)
    writer.write(b"\2\2")
    writer.close()
    assert (tmp_path / "a.wav").read_bytes() == header(RATE, 1, 202) + bytes(100) + sound(0.1)[100:200] + b"\2\2"
    with pytest.raises(FileExistsError):
        WavWriter(tmp_path / "a.wav", RATE)


@given(st.integers(0, 200))
def test_repair_of_any_rest(tmp_path_factory, size):
    path = tmp_path_factory.mktemp("wav") / "a.wav"
    path.write_bytes((header(RATE, 2, 10_000) + sound(1))[:size])
    assert repair_wav(path) is True
    with wave.open(str(path)) as file:
        assert file.getnframes() == max(0, size - HEADER_BYTES) // (4 if size >= HEADER_BYTES else 2)
    assert repair_wav(path) is False


def test_wav_sizes_end_where_the_format_ends():
    assert header(RATE, 2, 1 << 40)[40:] == (0xFFFFFFFF - HEADER_BYTES).to_bytes(4, "little")


# --- timeline ---------------------------------------------------------------------------------------------------------

ACTS = st.lists(
    st.tuples(st.sampled_from(["user", "answer", "cut", "wait", "write", "over", "ahead"]), st.integers(0, 60_000), st.integers(0, 3)),
    max_size=60,
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(ACTS)
def test_timeline_never_writes_twice_or_overlaps(acts):
    line, elapsed = Timeline(), 0.0
    left, written, received, kept = [], [], {}, {}
    for act, n, key in acts:
        elapsed += n / RATE_HZ if act == "wait" else 0.001
        line.move_to(elapsed)
        if act == "user" and n:
            start = line.user(n)
            assert start >= line.written  # never into what is settled
            assert not left or start >= left[-1][1]
            left.append((start, start + n))
        elif act == "answer" and n:
            line.answer(key, n)
            if key not in kept:
                received[key] = received.get(key, 0) + n
        elif act == "cut":
            for begin, end in line.cut(key, n):
                assert begin < end <= line.written
            kept[key] = min(n, kept.get(key, n), received.get(key, 0))
        elif act == "write":
            written += line.take(line.due)
        elif act == "over":
            line.user_turn_over()
        elif act == "ahead":
            line.run_ahead()
            assert line.now >= line.heard_end
        pieces = list(line.pieces)
        assert all(a.end <= b.start for a, b in itertools.pairwise(pieces))
    written += line.take(max(line.end, line.written))
    assert all(a.end <= b.start for a, b in itertools.pairwise(written))
    for key, total in received.items():
        mine = [(p.source, p.source + p.frames) for p in written if p.key == key]
        assert all(a[1] == b[0] for a, b in itertools.pairwise(mine))
        if key not in kept:
            assert sum(end - begin for begin, end in mine) == total
        else:
            assert not mine or mine[-1][1] <= total


@given(st.lists(st.integers(-150, 150), min_size=20, max_size=60), st.integers(0, 19))
def test_a_live_microphone_stays_on_the_clock(jitters_ms, first):
    line, block = Timeline(), RATE_HZ // 50
    for i, jitter_ms in enumerate(jitters_ms):
        line.move_to(max(line.now / RATE_HZ, 1 + i * 0.02 + jitter_ms / 1000))
        start = line.user(block)
        if i == first:
            line.answer("a", 60 * RATE_HZ)  # an answer is playing: that does not move the user
        assert abs(start - (RATE_HZ + i * block)) <= 2 * JITTER


def test_pauses_and_answers():
    line = Timeline()
    line.move_to(1.0)
    assert line.user(2400) == RATE_HZ
    line.move_to(1.25)
    assert line.user(2400) == RATE_HZ + 2400  # late by 150 ms: closes up
    line.move_to(5.0)
    assert line.user(2400) == 5 * RATE_HZ
    line.answer("a", RATE_HZ)
    line.answer("b", RATE_HZ)
    assert line.span("a") == (5 * RATE_HZ + 2400, 6 * RATE_HZ + 2400)
    assert line.span("b") == (6 * RATE_HZ + 2400, 7 * RATE_HZ + 2400)
    line.move_to(9.0)
    line.answer("b", RATE_HZ)  # ran dry: goes on now
    assert line.span("b") == (6 * RATE_HZ + 2400, 10 * RATE_HZ)


# --- journal ----------------------------------------------------------------------------------------------------------


def make_journal(tmp_path, *secrets):
    clock = HandClock()
    return Journal(tmp_path / "journal.jsonl", Masker(secrets), clock, clock.now), clock


def rows(tmp_path):
    """All lines but the first, which tells the version."""
    first, *others = map(json.loads, (tmp_path / "journal.jsonl").read_bytes().split(b"\n")[:-1])
    assert first["event"] == {"type": "journal", "version": 2}
    return others


DELTA = '{"type":"response.output_audio.delta","response_id":"r","item_id":"i","output_index":0,"content_index":0,'


@pytest.mark.parametrize(
    "frame",
    [
        DELTA + '"delta":"AAECAw==","event_id":"e","new_field":{"x":[1,2]}}',
        DELTA + '"delta" : "AAECAw==" }',
        DELTA + '\n"delta":"AAECAw=="\n}',
        DELTA + '"new":{"delta":"x"},"delta":"AAECAw=="}',
        '{"delta":"AAECAw==",' + DELTA[1:-1] + "}",
        DELTA + '"obfuscation":"\\"delta\\":\\"zz\\"","delta":"AAECAw=="}',
    ],
)
def test_journal_takes_the_sound_out_and_keeps_the_rest(tmp_path, frame):
    journal, clock = make_journal(tmp_path)
    event = codec.decode_server(frame.encode())
    assert event.delta == b"\0\1\2\3"
    media = media_of(event, frame.encode())
    journal.frame("in", frame.encode(), clock.now, media=media, places=[AudioPlace("f", 2, 4)])
    journal.close(clock.now)
    (row,) = rows(tmp_path)
    assert row["event"] == {**json.loads(frame), "delta": ""}
    assert row["audio"] == [{"file": "f", "offset": 2, "length": 4}]
    assert "AAECAw" not in (tmp_path / "journal.jsonl").read_text()


def test_journal_is_verbatim(tmp_path):
    journal, clock = make_journal(tmp_path, "sk-secret-key")
    frames = [
        b'{"type":"x.y", "z" : 1.0e2, "big": 123456789012345678901234567890, "u":"\\u00e9\xc3\xa9"}',
        b'{"type":"response.output_text.delta","delta":"a\\nb"}',
    ]
    for frame in frames:
        journal.frame("in", frame, clock.now)
    journal.close(clock.now)
    text = (tmp_path / "journal.jsonl").read_bytes()
    for frame in frames:
        assert frame in text
    assert [row["n"] for row in rows(tmp_path)] == [2, 3]


@given(st.binary(max_size=200))
def test_journal_lines_are_json_whatever_comes(tmp_path_factory, noise):
    tmp_path = tmp_path_factory.mktemp("j")
    journal, clock = make_journal(tmp_path, "secret")
    for frame in (noise, b'{"type":"input_audio_buffer.cleared","x":"' + noise + b'"}', b'{"type":"' + noise + b'"}'):
        event = codec.decode_server(frame)
        if isinstance(event, ev.MalformedEvent):
            bad = up.Malformed(event_type=event.type, error=event.error)
            journal.bad_frame("in", frame, bad, [bad], clock.now)
        else:
            journal.frame("in", frame, clock.now)
    journal.close(clock.now)
    assert [row["n"] for row in rows(tmp_path)] == [2, 3, 4]


def test_journal_cuts_long_garbage(tmp_path):
    journal, clock = make_journal(tmp_path, "k" * 40)
    bad = up.Malformed(event_type="", error="no")
    journal.bad_frame("in", b"x" * 4080 + b"k" * 40 + b"y" * 100_000, bad, [bad], clock.now)
    journal.close(clock.now)
    (row,) = rows(tmp_path)
    assert len(row["event"]) <= 4096
    assert "kkkk" not in row["event"]
    assert (row["size"], row["error"]) == (104_120, "no")


def test_journal_reaches_the_disk_within_half_a_second(tmp_path):
    journal, clock = make_journal(tmp_path)
    journal.frame("in", b'{"type":"a"}', clock.now)
    journal.frame("in", b'{"type":"b"}', clock.now + 0.4)
    assert (tmp_path / "journal.jsonl").read_bytes() == b""
    journal.frame("in", b'{"type":"c"}', clock.now + 0.5)
    assert len(rows(tmp_path)) == 3
    journal.close(clock.now)


# --- masks ------------------------------------------------------------------------------------------------------------

KEY = 'sk-proj/Ab"c\\dé-1234567890'


@pytest.mark.parametrize("ascii_only", [True, False])
def test_secrets_are_masked_however_they_are_written(ascii_only):
    masker = Masker([KEY])
    frame = json.dumps({"type": "error", "message": f"bad key {KEY}!", KEY: [KEY]}, ensure_ascii=ascii_only).encode()
    for variant in (frame, frame.replace(b"/", b"\\/"), frame.replace(b"sk-", b"\\u0073k-")):
        assert json.loads(masker.frame(variant)) == {"type": "error", "message": "bad key ***!", "***": ["***"]}
    clean = b'{"a" : "nothing \\u00e9 here"}'
    assert masker.frame(clean) is clean


def test_tool_credentials_are_masked_and_then_known():
    masker = Masker()
    tool = {
        "type": "mcp",
        "server_label": "x",
        "authorization": "Bearer tok-12345678",
        "headers": {"X-Key": "abcdefgh1"},
    }
    frame = json.dumps({"type": "session.update", "session": {"tools": [tool]}}).encode()
    masked = json.loads(masker.frame(frame))["session"]["tools"][0]
    assert (masked["authorization"], masked["headers"]) == ("***", {"X-Key": "***"})
    assert json.loads(masker.frame(b'{"message":"401 for tok-12345678 and abcdefgh1"}')) == {
        "message": "401 for *** and ***"
    }


@given(st.text(min_size=1, max_size=3), st.text(max_size=20))
def test_short_secrets_never_break_the_frame(secret, text):
    frame = json.dumps({"type": "a", "n": 123, "text": text}).encode()
    assert json.loads(Masker([secret]).frame(frame))


def test_secrets_are_in_no_file(tmp_path):
    key, bearer = "sk-proj-THE-KEY-0123456789", "tok-OF-THE-TOOL-42"
    stage = Stage(tmp_path, secrets=[key])
    stage.session["tools"] = [{"type": "mcp", "server_label": "s", "authorization": bearer, "headers": {"a": bearer}}]
    stage.say(ev.SessionUpdate(session=stage.session))
    stage.hear(ev.SessionUpdated(session=stage.session))
    stage.hear(ev.Error(error=ev.ErrorDetail(message=f"the key {key} and {bearer} are bad", code=key)))
    stage.raw(f'{{"type":"x","k":"{key}"'.encode())
    stage.raw(f'{{"type":"new","k":"{key}","a":["{bearer}"]}}'.encode())
    stage.answer(key, f"your key is {key}", sound(0.2))
    stage.type(f"is it {bearer}?")
    stage.recorder.close(ended=f"failed: {key}", stats={"url": f"wss://h/?key={key}", key: 1})
    for path in stage.folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert key.encode() not in data, path
            assert bearer.encode() not in data, path
    assert "your key is \\*\\*\\*" in (stage.folder / "transcript.md").read_text()


# --- text -------------------------------------------------------------------------------------------------------------


@given(st.text(max_size=80))
def test_markdown_holds_one_paragraph_and_nothing_acts(text):
    line = {"who": "user", "heard": text, "text": text, "interrupted": False, "start_s": 3723.5, "end_s": 3724.0}
    md = render.markdown(line)
    assert "<" not in md
    assert md.count("\n") == 2


@pytest.mark.parametrize(
    ("reason", "says"),
    [("network", "failed: the server was not there"), ("application", "failed: the server refused"), ("a_b", "a\\_b")],
)
def test_markdown_says_in_words_why_an_answer_is_not_complete(reason, says):
    line = {"who": "assistant", "heard": "", "text": "", "interrupted": False, "start_s": 0.0, "reason": reason}
    assert f"*({says}" in render.markdown(line)


def test_folder_names():
    assert folder_name(1_795_186_202.9).startswith("2026-11-20T14-50-02Z-")
    assert len(folder_name(0)) == 25


def test_replacing_leaves_no_part(tmp_path):
    replace_file(tmp_path / "a", b"one")
    replace_file(tmp_path / "a", b"two")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    with pytest.raises(OSError, match="No such file"):
        replace_file(tmp_path / "no" / "a", b"x")


def test_levels_of_noise_stay_where_they_are(tmp_path):
    stage = Stage(tmp_path)
    noise = np.random.default_rng(1).integers(1, 9000, 3 * RATE).astype("<i2").tobytes()
    stage.mic(noise, block=777 * 2)
    stage.close()
    left, _ = stage.stereo()
    begin = np.flatnonzero(left)[0]
    assert left[begin:].tobytes() == noise
