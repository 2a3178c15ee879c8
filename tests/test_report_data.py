"""What a report is made of: sound, events, latencies, sentences; and the command."""

import io
import json
import os
import re
from html.parser import HTMLParser

import msgspec
import numpy as np
import pytest
import soundfile
from cli_helpers import realtime
from hypothesis import given
from hypothesis import strategies as st
from report_helpers import HOSTILE, make_hostile, make_run, make_session, speech

from realtime_client import updates as up
from realtime_client.batch.result import StepResult
from realtime_client.batch.results.results import encode_line, read_results, read_run
from realtime_client.errors import UsageError
from realtime_client.recording.journal_reader import read_line
from realtime_client.recording.wav import header
from realtime_client.report import events as events_module
from realtime_client.report import write_report
from realtime_client.report.cost import session_cost
from realtime_client.report.events import EventList
from realtime_client.report.markup import code, data_block, tag
from realtime_client.report.plots import MOST_POINTS, Series, histogram, only_value, scatter, thinned
from realtime_client.report.run_page import session_folder
from realtime_client.report.sentences import place, split
from realtime_client.report.session_data import read_session
from realtime_client.report.session_page import plotted
from realtime_client.report.sound import MOST_PEAKS, AudibleClip, make_sound

RATE = 24_000


def decoded(clip: AudibleClip, block_bytes: int) -> np.ndarray:
    """What libsndfile hears in a clip."""
    blocks = len(clip.adpcm) // block_bytes
    samples = blocks * (1 + 2 * (block_bytes - 4))
    head = b"WAVEfmt " + (20).to_bytes(4, "little") + np.array([0x11, 1], "<u2").tobytes()
    head += np.array([RATE, RATE // 2], "<u4").tobytes()
    head += np.array([block_bytes, 4, 2, (block_bytes - 4) * 2 + 1], "<u2").tobytes()
    head += b"fact" + np.array([4, samples], "<u4").tobytes() + b"data" + len(clip.adpcm).to_bytes(4, "little")
    wav = b"RIFF" + (len(head) + len(clip.adpcm)).to_bytes(4, "little") + head + clip.adpcm
    return soundfile.read(io.BytesIO(wav), dtype="int16")[0][: clip.frames]


def test_clips_hold_the_sound_where_it_was_and_leave_silence_out():
    said = speech("The captain came ashore with oranges.")
    stereo = np.zeros((70 * RATE, 2), "<i2")
    stereo[5 * RATE : 5 * RATE + len(said), 0] = said
    stereo[39 * RATE : 39 * RATE + len(said), 1] = said  # over the border of a segment
    sound = make_sound(stereo, RATE)
    again = np.zeros_like(stereo)
    for clip in sound.clips:
        again[clip.start : clip.start + clip.frames, clip.channel] = decoded(clip, sound.block_bytes)
    noise = (again.astype(float) - stereo)[stereo.any(axis=1)]
    signal = stereo[stereo.any(axis=1)].astype(float)
    assert 10 * np.log10((signal**2).sum() / (noise**2).sum()) > 20
    assert not again[:, 0][: 4 * RATE].any()
    assert not again[:, 1][: 38 * RATE].any()
    assert sum(clip.frames for clip in sound.clips) < 2 * len(said) + 4 * RATE
    assert sum(len(clip.adpcm) for clip in sound.clips) < 0.6 * sum(clip.frames for clip in sound.clips) + 10_000


def test_peaks_are_bounded_and_where_the_sound_is():
    stereo = np.zeros((RATE * 3, 2), "<i2")
    stereo[RATE + 5, 0] = -32_768
    sound = make_sound(stereo, RATE)
    assert sound.peaks.shape == (2, 300)
    assert sound.peaks.shape[1] <= MOST_PEAKS
    assert np.flatnonzero(sound.peaks[0]).tolist() == [100]
    assert sound.peaks[0, 100] == 255


def test_a_deltas_row_counts_instead_of_listing():
    events = EventList(lambda _name: 48_000)
    lines = [line(i, "out", {"type": "input_audio_buffer.append", "audio": ""}, 960) for i in range(50_000)]
    lines.insert(30_000, line(99, "in", {"type": "input_audio_buffer.speech_started", "audio_start_ms": 5}))
    events.read(map(read_line, lines))
    rows = events.rows()
    assert [(row.kind, row.count, round(row.audio_s)) for row in rows] == [
        ("input_audio_buffer.append", 30_000, 600),
        ("input_audio_buffer.speech_started", 1, 0),
        ("input_audio_buffer.append", 20_000, 400),
    ]
    assert events.messages == 50_001


def test_the_list_of_events_is_bounded(monkeypatch):
    monkeypatch.setattr(events_module, "MOST_ROWS", 100)
    events = EventList(lambda _name: 48_000)
    lines = (line(i, "in", {"type": "rate_limits.updated", "x": "y" * 9_000}) for i in range(10_000))
    events.read(map(read_line, lines))
    assert events.messages == 10_000
    assert len(events.rows()) <= 50 + events_module.EventList(lambda _name: 1)._last.maxlen
    assert events.dropped == 10_000 - len(events.rows())
    assert events.rows()[0].n == 0
    assert events.rows()[-1].n == 9_999
    assert max(len(row.detail) for row in events.rows()) < 5_000


def line(n, way, event, length=0):
    place = [{"file": "conversation.wav", "offset": 0, "length": length}] if length else []
    return json.dumps({"n": n, "t": n / 50, "wall": 0, "dir": way, "event": event, "audio": place}).encode() + b"\n"


def test_latencies_of_a_session(tmp_path):
    session = read_session(make_session(tmp_path))
    points = session.events.latencies.points
    assert points["speech_to_audio"][0][1] == pytest.approx(401, abs=5)
    assert points["first_audio"][0][1] == pytest.approx(401, abs=5)
    assert len(points["answer"]) == 3
    assert "interruption" not in points  # it was typed


def test_an_interruption_counts_from_the_speech_that_caused_it():
    latencies = EventList(lambda _name: 1).latencies
    speech, cut = up.SpeechStarted(item_id="u", at_ms=0), {"item_id": "a", "content_index": 0, "heard_ms": 1}
    cut = up.Interrupted(**cut, response_id="r", received_ms=2, cause="speech")
    latencies.take(speech, 0.5)
    latencies.take(up.ResponseStarted(response_id="r"), 1.0)
    latencies.take(cut, 2.0)  # of this speech nothing is known
    latencies.take(speech, 3.0)
    latencies.take(cut, 3.025)
    latencies.take(speech, 4.0)
    latencies.take(cut, 4.0)  # cut by the message that tells of it
    assert latencies.points["interruption"] == [(3.025, 25.0)]


def test_turns_say_what_was_heard_and_where(tmp_path):
    session = read_session(make_session(tmp_path))
    user, cut, typed, call, *_ = session.turns
    assert (user.who, user.text, user.audible) == ("user", "What happened then?", True)
    assert cut.text.startswith(cut.heard)
    assert 0 < len(cut.heard) < len(cut.text)
    assert cut.interrupted
    assert cut.end_s - cut.start_s == pytest.approx(cut.cut_ms / 1000, abs=0.01)
    assert not typed.audible
    assert (call.tool, json.loads(call.text)) == ("get_weather", {"city": "Paris"})


def test_sentences_are_found_by_their_pauses():
    texts = [
        "One night a storm came up.",
        "The lamp would not burn, so she took her trumpet!",
        "Yes.",
        "It cost $1,250.",
    ]
    pieces, borders = [], [0.0]
    for text in texts:
        pieces += [speech(text), np.zeros(RATE // 3, "<i2")]
        borders.append(sum(map(len, pieces)) / RATE)
    sound = np.concatenate(pieces)
    peaks = make_sound(np.stack([sound, sound], 1), RATE).peaks[0]
    found = place(" ".join(texts), 0.0, len(sound) / RATE, peaks, 0.01)
    assert [sentence.text.strip() for sentence in found] == texts
    for sentence, start, end in zip(found, borders, borders[1:], strict=False):
        assert sentence.start_s == pytest.approx(start, abs=0.3)
        assert sentence.end_s == pytest.approx(end, abs=0.3)


@given(st.text())
def test_sentences_put_together_are_the_text(text):
    assert "".join(split(text)) == text


def test_sentences_of_silence_are_in_order():
    found = place("A. B. C. D.", 1.0, 3.0, np.zeros(1000, np.uint8), 0.01)
    times = [time for sentence in found for time in (sentence.start_s, sentence.end_s)]
    assert times == sorted(times)
    assert times[0] == 1.0
    assert times[-1] == 3.0


def test_plots_take_any_number_of_points():
    points = [(float(i), float(i % 1000)) for i in range(100_000)]
    kept = thinned(points)
    assert len(kept) <= MOST_POINTS + 2
    assert max(kept, key=lambda p: p[1])[1] == 999.0
    for values in ([(0.0, 0.0)], [(1.0, 5.0), (2.0, float("inf"))], points):
        series = Series("Name", "meaning", values)
        assert "NaN" not in scatter(series, 100.0) + histogram(series)


def test_labels_of_a_plot_stay_inside_of_it():
    drawn = histogram(Series("x", "y", [(float(n), 30.0 if n else 198.0) for n in range(6)]))
    (p99,) = re.findall(r"<text[^>]*>p99 198 ms</text>", str(drawn))
    assert 'text-anchor="end"' in p99


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.said = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append(dict(attrs))

    def handle_data(self, data):
        self.said += data

    def handle_comment(self, data):
        self.tags.append("!--")


@given(st.text() | st.just(HOSTILE))
def test_text_cannot_leave_its_element(text):
    reader = _Reader()
    reader.feed(tag("p", text, title=text))
    reader.close()
    assert reader.tags == ["p"]
    assert set(reader.attributes[0]) == {"title"}


@given(st.recursive(st.text() | st.just(HOSTILE), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_data_cannot_leave_its_block(value):
    block = data_block("x", value)
    content = block[block.index(">") + 1 : block.rindex("</script>")]
    assert "<" not in content
    assert "\u2028" not in content
    assert "\u202e" not in content
    json.loads(content)


def test_code_shows_what_cannot_be_seen():
    assert code("a\u202eb\x1b\n") == "a\\u202eb\\u001b\n"


@pytest.mark.parametrize("make", [make_session, make_hostile, make_run])
def test_the_same_folder_makes_the_same_file(tmp_path, make):
    folder = make(tmp_path)
    written = [write_report(folder, tmp_path / name) for name in ("a.html", "b.html")]
    assert written[0].path.read_bytes() == written[1].path.read_bytes()
    assert written[0].path.stat().st_mode & 0o777 == 0o600
    assert written[0].size_bytes == written[0].path.stat().st_size


def test_the_command_prints_the_path(tmp_path):
    folder = make_session(tmp_path)
    done = realtime("report", str(folder))
    assert done.returncode == 0
    assert done.stdout == f"{folder / 'report.html'}\n"
    assert "report of the session" in done.stderr
    done = realtime("report", str(folder), "--json", "-q", "--out", str(tmp_path / "x.html"))
    assert json.loads(done.stdout)["path"] == str(tmp_path / "x.html")
    assert done.stderr == ""


def test_a_folder_of_something_else_is_one_clear_line(tmp_path):
    done = realtime("report", str(tmp_path))
    assert done.returncode == 2
    assert done.stdout == ""
    assert "holds neither a recording" in done.stderr
    assert done.stderr.count("\n") == 1
    assert realtime("report", str(tmp_path / "missing")).returncode == 2


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    folder = make_session(tmp_path)
    with pytest.raises(UsageError, match="cannot write the report"):
        write_report(folder, tmp_path / "no" / "x.html")
    with pytest.raises(UsageError, match="is a folder"):
        write_report(folder, tmp_path)


def test_an_unfinished_recording_gives_a_report_that_says_so(tmp_path):
    folder = make_session(tmp_path)
    info = json.loads((folder / "session.json").read_text())
    (folder / "session.json").write_text(json.dumps(info | {"state": "running", "pid": 1 << 22 | 1 << 30}))
    (folder / "transcript.jsonl").write_text("")
    wav = folder / "conversation.wav"
    data = wav.read_bytes()
    wav.write_bytes(header(RATE, 2, 0) + data[44:-3])  # a header that is behind, half a frame at the end
    written = write_report(folder)
    assert any("cut off" in problem for problem in written.problems)
    session = read_session(folder)
    assert [turn.who for turn in session.turns][:3] == ["user", "assistant", "user"]  # from the journal
    assert session.sound is not None
    assert session.sound.seconds > 3
    info["pid"] = os.getpid()
    (folder / "session.json").write_text(json.dumps(info | {"state": "running"}))
    assert any("still being recorded" in problem for problem in write_report(folder).problems)


@pytest.mark.parametrize("name", ["session.json", "journal.jsonl", "transcript.jsonl", "conversation.wav"])
def test_a_file_that_is_missing_or_damaged_costs_only_itself(tmp_path, name):
    folder = make_session(tmp_path)
    (folder / name).write_bytes(b"\xff\xfe\x00 not what it says" * 10)
    write_report(folder)
    (folder / name).unlink()
    assert write_report(folder).size_bytes > 10_000


def test_a_run_leads_to_its_sessions_and_to_nothing_outside(tmp_path):
    folder = make_run(tmp_path)
    (tmp_path / "outside").mkdir()
    written = write_report(folder)
    assert written.kind == "run"
    assert written.sessions == 1
    assert write_report(folder).sessions == 0  # they are there, and as new as the recordings
    text = written.path.read_text()
    [session] = (folder / "sessions").iterdir()
    assert f'href="./sessions/{session.name}/report.html"' in text
    assert "outside" not in text
    elsewhere = tmp_path / "other" / "r.html"
    elsewhere.parent.mkdir()
    assert f'href="./../run/sessions/{session.name}/report.html"' in write_report(folder, elsewhere).path.read_text()
    for recording in ("..", ".", "/etc", "../outside", "a\0b", "javascript:alert(1)"):
        assert session_folder(folder, recording) is None


def results_of(folder):
    return read_results(folder / "results.jsonl")[0]


def rewrite(folder, results, **info):
    (folder / "results.jsonl").write_bytes(b"".join(map(encode_line, results)))
    run = msgspec.structs.replace(read_run(folder / "run.json"), **info)
    (folder / "run.json").write_bytes(msgspec.json.encode(run))


def test_a_sessions_page_says_what_came_of_its_case_and_leads_back(tmp_path):
    folder = make_run(tmp_path)
    [session] = (folder / "sessions").iterdir()
    write_report(folder)
    page = (session / "report.html").read_text()
    assert "<h1>weather-1</h1>" in page
    assert 'href="./../../report.html"' in page
    assert '<div class="verdict passed">' in page
    first, *others = results_of(folder)
    failed = msgspec.structs.replace(first, status="failed", checks=others[0].checks)
    rewrite(folder, [failed, *others])
    assert write_report(folder).sessions == 1, "another verdict is another page"
    assert write_report(folder).sessions == 0
    page = (session / "report.html").read_text()
    assert '<div class="verdict failed">' in page
    assert "turn 1, contains: expected sunny, seen rainy (a.yaml:3:5)" in page


def test_a_session_of_a_run_that_is_reported_on_its_own(tmp_path):
    folder = make_run(tmp_path)
    [session] = (folder / "sessions").iterdir()
    page = write_report(session).path.read_text()
    assert "<h1>weather-1</h1>" in page
    assert "report.html" not in page, "there is no report of the run to lead to"
    write_report(folder, sessions=False)
    assert 'href="./../../report.html"' in write_report(session).path.read_text()
    assert 'href="./run/report.html"' in write_report(session, tmp_path / "x.html").path.read_text()
    (folder / "results.jsonl").write_bytes(b"")
    assert "<h1>weather-1</h1>" not in write_report(session).path.read_text()


def test_what_failed_is_listed_first_where_not_all_are(tmp_path, monkeypatch):
    monkeypatch.setattr("realtime_client.report.run_page.MOST_CASES", 2)
    page = write_report(make_run(tmp_path)).path.read_text()
    assert page.index('class="name">weather-2<') < page.index('class="name">greeting<')
    assert 'class="name">weather-1<' not in page
    assert "Only 2 of 3 cases are listed" in page


@pytest.mark.parametrize(
    ("version", "settings", "local"),
    [
        (2, {"local": True, "endpoint": "ws://127.0.0.1:1/v1/realtime?model=gpt-realtime-2.1"}, True),
        (2, {"local": False, "endpoint": "ws://127.0.0.1:1/v1/realtime"}, False),
        (1, {"local": False, "endpoint": "ws://127.0.0.1:1/v1/realtime"}, True),  # as it stood without a key
        (1, {"url": "ws://127.0.0.1:1", "endpoint": "ws://127.0.0.1:1/v1/realtime"}, False),  # anybody's
        (1, {"base_url": "http://localhost:1", "endpoint": "ws://localhost:1/v1/realtime"}, False),
        (1, {"endpoint": "wss://api.openai.com/v1/realtime"}, False),
        (1, {"endpoint": "wss://["}, False),
    ],
)
def test_the_built_in_server_is_named_and_not_a_model_that_it_does_not_have(tmp_path, version, settings, local):
    folder = make_session(tmp_path)
    info = json.loads((folder / "session.json").read_text())
    (folder / "session.json").write_text(
        json.dumps(info | {"version": version, "model": "gpt-realtime-2.1", "settings": settings})
    )
    page = write_report(folder).path.read_text()
    under = page[page.index('<p class="under">') :].partition("</p>")[0]
    assert ("the built-in local server" in under, "gpt-realtime-2.1" in under) == (local, not local)


def test_a_session_of_a_run_with_the_built_in_server(tmp_path):
    folder = make_run(tmp_path)
    [session] = (folder / "sessions").iterdir()
    rewrite(folder, results_of(folder), target="the built-in local server")
    write_report(folder)
    page = (session / "report.html").read_text()
    assert "the built-in local server" in page[: page.index("</header>")]
    assert "the built-in server costs nothing" in page


def test_what_the_machine_adds_to_latencies_is_told(tmp_path):
    folder = make_run(tmp_path)
    assert "itself waited long" not in write_report(folder).path.read_text()
    slow = {"latencies": {"<b>": [100.0]}, "own_waiting": {"<b>": [90.0]}}
    step = StepResult(n=1, kind="speak")
    rewrite(folder, [msgspec.structs.replace(r, **slow, steps=[step]) for r in results_of(folder)], jobs=8, ears=2)
    page = write_report(folder).path.read_text()
    notices = page[page.index('class="notices"') :].partition("</div>")[0]
    assert "This program itself waited long beside &lt;b&gt;: it has too many sessions" in notices
    assert "the built-in server transcribes 2 at a time" in notices


def test_one_value_is_a_sentence_and_no_plot():
    once = Series("First text", "to the first text", [(61.0, 42.0)])
    assert only_value(once) == "Measured once: 42.0 ms, at 1:01."
    assert only_value(Series("x", "y", [(0.0, 42.0)])) == "Measured once: 42.0 ms."
    assert only_value(Series("x", "y", [(0.0, 42.0), (1.0, 42.0)])) == ""
    assert "<svg" not in plotted(once, histogram)
    assert "Measured once" in plotted(once, histogram)


def test_the_cost_is_told_only_where_it_is_known():
    usage = {"input_tokens": 1_000_000, "input_text": 1_000_000, "total_tokens": 1_000_000}
    info = {"model": "gpt-realtime-2.1", "usage": usage, "settings": {"endpoint": "wss://api.openai.com/v1/realtime"}}
    assert session_cost(info)[0] == 4.0
    assert session_cost(info | {"cost_usd": 1.5})[0] == 1.5
    assert session_cost(info | {"settings": {"local": True}})[0] == 0.0
    own = {"session_id": "sess_local_1", "version": 2}
    assert session_cost(info | own | {"settings": {"endpoint": "ws://localhost:9/v1/realtime"}})[0] == 0.0
    assert session_cost(info | own)[0] == 4.0, "elsewhere it is not believed"
    assert session_cost(info | {"model": "another"})[0] is None
    for endpoint in ("wss://example.org/v1", "wss://notopenai.com/", "wss://[", 7):
        assert session_cost(info | {"settings": {"endpoint": endpoint}})[0] is None
    assert session_cost(info | {"usage": {"input_tokens": "many"}})[0] is None
    assert session_cost({})[0] is None
