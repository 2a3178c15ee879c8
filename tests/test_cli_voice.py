"""`realtime chat` by voice: a person speaks into a sound card that is not there, types, presses keys, and listens."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli_helpers import Terminal, realtime, started
from sound_card import SoundCard, again_after_a_stall, wait_until
from talk_stage import speech
from talking_server import TalkingServer

from realtime_client import updates
from realtime_client.audio import devices
from realtime_client.audio.echo.control import EchoMode, EchoPath
from realtime_client.audio.echo.loop_test import Advice
from realtime_client.changes import Changes
from realtime_client.cli.status import Status, bar, status_row
from realtime_client.cli.talk_key import HELD_S, KeyReports, TalkSwitch
from realtime_client.errors import ConnectionLostError
from realtime_client.opening import opened
from realtime_client.settings import Settings, config_path, load_settings
from realtime_client.talk import echo_memory
from realtime_client.talk.assembly import LiveSound
from realtime_client.talk.turns import TalkKey

pytest_plugins = ["sound_card_fixture"]

F2, F2_LET_GO = "\x1b[Q", "\x1b[1;1:3Q"  # as a terminal with the keyboard protocol says it
F2_TAPPED, CTRL_SPACE, CTRL_C = "\x1bOQ", "\x00", "\x03"
HEARD_LIMIT_S = 10.0
READY = ".quit to end\n"


@contextmanager
def voice_chat(*args: str, mic: str = "card1", speaker: str = "card1", **options) -> Iterator[Terminal]:
    devices = ("--mic", mic, "--speaker", speaker, "--echo", "headphones")
    with Terminal("chat", "--local", "--no-record", *devices, *args, **options) as terminal:
        terminal.wait_for(READY)
        terminal.wait_for("| mic ")
        yield terminal


def leave(terminal: Terminal) -> None:
    terminal.type("\x15.quit\r")
    assert terminal.wait_end() == 0


def read_until(terminal: Terminal, true: Callable[[], object], what: str) -> None:
    """Read what the program shows until something is true."""
    ends = time.monotonic() + HEARD_LIMIT_S
    while not true():
        assert terminal._read(ends), f"{what} never came; the screen is\n{terminal.text}"


def say(terminal: Terminal, card: SoundCard, text: str, key: tuple[str, str] = ("", ""), number: int = 1) -> None:
    """Say a sentence, with a key before and after it, until it is understood: again, as people do, if it was not."""
    understood = f"> {text.lower().rstrip('.')}  (spoken)"
    for _ in range(3):
        lines = terminal.text.count("(spoken)")
        if key[0]:
            terminal.type(key[0])
            terminal.wait_for("talk, F2 ends |")
        card.speak(speech(text), number=number)
        if key[1]:
            terminal.type(key[1])
        read_until(terminal, lambda lines=lines: terminal.text.count("(spoken)") > lines, "what was said")
        if understood in terminal.text:
            return
    raise AssertionError(f"{understood!r} never came; the screen is\n{terminal.text}")


@again_after_a_stall
def test_a_spoken_question_is_shown_and_its_answer_is_heard(sound_card: SoundCard):
    with sound_card.hear() as tape, voice_chat() as terminal:
        assert "speak, or type a line" in terminal.wait_for("listening | nobody speaks | mic")
        before = tape.duration_s
        say(terminal, sound_card, "Count to five.")
        terminal.wait_for("One, two, three, four, five.")
        terminal.wait_for("assistant speaks")
        terminal.wait_for("nobody speaks")
        loud = tape.loud(400)
        assert len(loud[loud > before * 48_000]) > 24_000, "half a second of sound at least"
        leave(terminal)


@again_after_a_stall
def test_typed_text_stops_the_voice(sound_card: SoundCard):
    with sound_card.hear() as tape, voice_chat() as terminal:
        terminal.type("tell me a long story\r")
        terminal.wait_for("assistant speaks")
        wait_until(lambda: len(tape.loud(400)) > 4_800, what="the story is heard")
        terminal.type("repeat after me no\r")
        cut = terminal.wait_for("]\n> repeat after me no\nno.")
        assert re.search(r'\[interrupted: heard ("[^"]+", \d+ of \d+ words|\d\.\d of \d+\.\d s)\]\n> repeat', cut), cut
        terminal.wait_for("listening | nobody speaks")  # the story would have taken a minute
        terminal.type(".cancel\r")
        terminal.wait_for("[no answer is running]")
        terminal.type("tell me a long story\r")
        terminal.wait_for("assistant speaks")
        loud = len(tape.loud(400))
        wait_until(lambda: len(tape.loud(400)) > loud + 4_800, what="the second story is heard")
        terminal.type(CTRL_C)
        terminal.wait_for("nobody speaks")
        read_until(terminal, lambda: terminal.text.count("[interrupted: heard ") == 2, "what was heard")
        leave(terminal)
        assert tape.duration_s < 30


@again_after_a_stall
def test_words_that_are_spoken_while_the_line_is_dead_are_heard(sound_card: SoundCard):
    """It dies as soon as the server hears somebody, and is back when the sentence is long over."""
    faults = "rst @input_audio_buffer.speech_started @connections=1; refuse:503,retry-after=2 @connections=2"
    with started("serve", "--faults", faults) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        devices = ("--mic", "card1", "--speaker", "card1", "--echo", "headphones")
        with sound_card.hear() as tape, Terminal("chat", "--url", url, "--no-record", *devices) as terminal:
            terminal.wait_for("listening | nobody speaks | mic")
            before = tape.duration_s
            sound_card.speak(speech("Count to five."))
            terminal.wait_for("no connection, listening: words are kept")
            terminal.wait_for("> count to five  (spoken)")
            terminal.wait_for("One, two, three, four, five.")
            assert terminal.text.count("(spoken)") == 1
            assert "[connected again after" in terminal.text
            wait_until(lambda: sum(tape.loud(400) > before * 48_000) > 24_000, what="the answer is heard")
            leave(terminal)


TOOLS = """\
from pathlib import Path
from realtime_client.tools import Progress, ToolContext, tool

@tool
def get_weather(context: ToolContext) -> str:
    \"\"\"Tell the weather.\"\"\"
    yield Progress("asking", 1, 2)
    while not Path("GO").exists() and not context.wait(0.02):
        pass
    return "warm"
"""


@again_after_a_stall
def test_one_talks_on_while_a_tool_works(sound_card: SoundCard, tmp_path: Path):
    tools, go = tmp_path / "tools.py", tmp_path / "go"
    tools.write_text(TOOLS.replace("GO", str(go)))
    with sound_card.hear() as tape, voice_chat("--tools", str(tools)) as terminal:
        terminal.type("what is the weather\r")
        terminal.wait_for("[allow get_weather({}) from tools.py? y, n, always, never]")
        terminal.type("y\r")
        terminal.wait_for("[get_weather: asking, 50%]")
        say(terminal, sound_card, "Count to five.")
        terminal.wait_for("One, two, three, four, five.")
        terminal.wait_for("assistant speaks")
        terminal.wait_for("nobody speaks")
        loud = len(tape.loud(400))
        assert loud > 24_000, "half a second of sound at least"
        go.touch()
        terminal.wait_for("[get_weather done in ")
        terminal.wait_for("The tool says: warm.")
        wait_until(lambda: len(tape.loud(400)) > loud + 4_800, what="the result is heard")
        leave(terminal)


@again_after_a_stall
def test_a_muted_microphone_says_nothing(sound_card: SoundCard):
    with voice_chat() as terminal:
        terminal.type(".mute\r")
        terminal.wait_for("[the microphone is muted; .unmute ends that]")
        terminal.wait_for("muted | nobody speaks")
        sound_card.speak(speech("Count to five."))
        terminal.type(".unmute\r")
        terminal.wait_for("[the microphone is on]")
        say(terminal, sound_card, "Count to three.")
        assert "five" not in terminal.text
        terminal.type(".volume 40%\r")
        terminal.wait_for("[the volume is 0.4]")
        terminal.type(".volume loud\r")
        terminal.wait_for("[the volume is a number from 0 to 1, or from 0% to 100%]")
        terminal.type(".devices\r")
        terminal.wait_for("speakers:\n *  0  card1\n    1  card2")
        terminal.type(".mic nonesuch\r")
        terminal.wait_for("[no microphone matches 'nonesuch'; there are: 0 'card1'")
        terminal.type(".speaker card2\r")
        terminal.wait_for("[the speaker is now card2 (chosen)]")
        leave(terminal)


@again_after_a_stall
def test_push_to_talk_by_tap_and_by_hold(sound_card: SoundCard):
    with voice_chat("--turn-detection", "ptt") as terminal:
        assert "press F2 and speak" in terminal.wait_for("F2 to talk | nobody speaks")
        say(terminal, sound_card, "Count to five.", (F2_TAPPED, F2_TAPPED))
        terminal.wait_for("One, two, three, four, five.")
        sound_card.speak(speech("Spell banana."))  # nobody listens
        read_until(terminal, lambda: b"\x1b[?u" in terminal.raw, "the question for the keyboard protocol")
        terminal.type("\x1b[?0u")
        read_until(terminal, lambda: b"\x1b[>2u" in terminal.raw, "the request for reports of keys")
        say(terminal, sound_card, "Count to three.", (F2, F2_LET_GO))
        terminal.type("a\x1b[97;1:3ub")  # letters let go are no letters
        shown = terminal.wait_for("\n> ab")
        assert "banana" not in shown
        leave(terminal)
        assert b"\x1b[<u" in terminal.raw


@again_after_a_stall
def test_modes_are_changed_in_the_session(sound_card: SoundCard):
    with voice_chat(columns=60, NO_COLOR="1") as terminal:
        terminal.type(F2_TAPPED)
        terminal.wait_for("[push-to-talk is off; .mode ptt turns it on]")
        terminal.type(".mode ptt\r")
        terminal.wait_for("F2 to talk |")
        terminal.type(".talk\r")
        terminal.wait_for("talk, F2 ends |")
        terminal.type(CTRL_SPACE)
        terminal.wait_for("F2 to talk |")
        terminal.type(".mode semantic\r")
        terminal.wait_for("listening |")
        terminal.type(".mode\r")
        terminal.wait_for("[the server judges by what you say when your turn ends]")
        terminal.type(".mode polite\r")
        terminal.wait_for("['polite' is no mode; there are vad, semantic and ptt]")
        leave(terminal)
        assert not any(f"\x1b[0;{colour}m".encode() in terminal.raw for colour in (*range(30, 38), *range(90, 98)))


@again_after_a_stall
def test_when_the_sound_server_dies_the_session_goes_on_in_text(sound_card: SoundCard):
    with voice_chat() as terminal:
        sound_card.kill()
        terminal.wait_for("the session goes on in text]")
        terminal.type("repeat after me still here\r")
        terminal.wait_for("still here.")
        assert b"Expression" not in terminal.raw, "PortAudio's complaints are not for the screen"
        sound_card.start()
        terminal.wait_for("[the speaker is now ")
        leave(terminal)


@again_after_a_stall
def test_a_default_that_changes_is_told_and_shown(sound_card: SoundCard):
    with voice_chat(mic="default", speaker="default") as terminal:
        sound_card.use(2)
        terminal.wait_for("[the speaker is now speaker2 (")
        terminal.type(".devices\r")
        terminal.wait_for("default (now speaker2)")
        leave(terminal)


@again_after_a_stall
def test_a_device_that_hangs_is_left_for_another(sound_card: SoundCard):
    with voice_chat(columns=100) as terminal:
        sound_card.suspend(1)
        terminal.wait_for("the device hangs)]")
        terminal.wait_for("| mic \u25af\u25af\u25af\u25af\u25af card2 | speaker \u25af\u25af\u25af\u25af\u25af card2")
        with sound_card.hear(2) as tape:
            say(terminal, sound_card, "Count to five.", number=2)
            wait_until(lambda: len(tape.loud(400)) > 4_800, what="the answer is heard")
        leave(terminal)


# The assembly, without a screen.


def live_settings(tmp_path: Path, **values) -> Settings:
    return load_settings({"local": True, "record_dir": tmp_path, "echo": "headphones", **values})


@again_after_a_stall
def test_what_was_heard_until_the_end_is_in_the_record(sound_card: SoundCard, tmp_path: Path):
    sound = LiveSound(live_settings(tmp_path, speaker="card1", mic="card1"), pytest.fail)
    with opened(live_settings(tmp_path), sound=sound) as held:
        parts = []
        held.session.observe(lambda u, _: parts.append(u) if isinstance(u, updates.AudioDelta) else None)
        held.session.send_text("tell me a long story")
        wait_until(lambda: sound.speaker.level_dbfs > -40, 15, "the story begins")
        sound.use("output", "card2")
        wait_until(lambda: (now := sound.speaker.device) and now.name == "card2", what="the other speaker")
        part = (parts[0].item_id, parts[0].content_index)
        wait_until(lambda: (sound.speaker.heard_ms(*part) or 0) > 500, what="the story goes on")
    assert held.recording is not None
    turns = [json.loads(line) for line in (held.recording / "transcript.jsonl").read_text().splitlines()]
    story = next(turn for turn in turns if turn["who"] == "assistant")
    assert story["interrupted"]
    assert 0 < story["cut_ms"] < 30_000
    assert story["text"].startswith(story["heard"][:-3])
    assert len(story["heard"]) < len(story["text"])
    assert "the speaker is now card2 (chosen)" in [turn["text"] for turn in turns if turn["who"] == "note"]
    assert devices.remembered("output") == "card2"


@again_after_a_stall
def test_a_device_of_the_config_file_or_of_last_time_that_is_gone_is_replaced_by_the_default(
    sound_card: SoundCard, tmp_path: Path
):
    config_path().parent.mkdir(parents=True)
    config_path().write_text('mic = "headset"\n')
    devices.remember("output", "HDMI")
    warnings: list[str] = []
    sound = LiveSound(live_settings(tmp_path), warnings.append)
    assert sound.possible
    assert len(warnings) == 2
    assert warnings[0].startswith(f"config file {config_path()}: mic: no microphone matches 'headset'")
    assert warnings[0].endswith("; using the default")
    assert warnings[1] == "'HDMI', chosen before, is not there; using 'default'"


@again_after_a_stall
def test_what_a_flag_names_is_remembered_once_it_works(sound_card: SoundCard, tmp_path: Path):
    settings = live_settings(tmp_path, mic="card2", record=False)
    sound = LiveSound(settings, pytest.fail)
    assert devices.remembered("input") is None
    with opened(settings, sound=sound):
        pass
    assert (devices.remembered("input"), devices.remembered("output")) == ("card2", None)


@again_after_a_stall
def test_what_was_measured_for_the_devices_in_use_is_used(sound_card: SoundCard, tmp_path: Path):
    advice = Advice(mode=EchoMode.HALF_DUPLEX, reason="measured", path=EchoPath(delay_ms=80.0, return_loss_db=20.0))
    echo_memory.remember("card2", "card1", advice)
    settings = live_settings(tmp_path, echo="auto", mic="card1", speaker="card2", modality="audio", record=False)
    sound = LiveSound(settings, pytest.fail)
    with opened(settings, sound=sound):
        assert sound.echo_mode == "half-duplex"


@again_after_a_stall
def test_text_answers_need_no_speaker(sound_card: SoundCard, tmp_path: Path):
    settings = live_settings(tmp_path, modality="text", record=False)
    sound = LiveSound(settings, pytest.fail)
    with opened(settings, sound=sound):
        assert sound.speaker is None
        assert sound.microphone is not None


class _Speaker:
    """Plays for a number of looks, or for ever."""

    device = "a speaker"

    def __init__(self, looks: float) -> None:
        self.looks = looks

    @property
    def idle(self) -> bool:
        self.looks -= 1
        return self.looks <= 0


def ended(sound: LiveSound, looks: float, error: Exception | None, asked: list[str]) -> _Speaker:
    """End the sound of a session as its client says, while a speaker plays."""
    client: Any = SimpleNamespace(error=error, interrupt=asked.append)
    sound.speaker = _Speaker(looks)
    sound._silence(client)
    return sound.speaker


def test_what_arrived_before_the_connection_was_lost_is_played_to_its_end(tmp_path: Path):
    asked: list[str] = []
    sound = LiveSound(live_settings(tmp_path, close_timeout_s=5), lambda _text: None)
    lost = ConnectionLostError("gone")
    assert ended(sound, 5, lost, asked).looks == 0
    assert asked == []
    began_s = time.monotonic()
    sound.drop()  # Ctrl-C
    assert ended(sound, math.inf, lost, asked).looks == math.inf
    assert time.monotonic() - began_s < 4
    ended(sound, math.inf, None, asked)
    assert asked == ["cancel"], "a session that ends as asked is cut"


@pytest.mark.parametrize(
    ("modality", "modalities", "asked"),
    [("audio", ("text",), [Changes(modality="audio")]), ("audio", ("audio",), []), ("text", ("text",), [])],
)
def test_a_speaker_that_comes_asks_for_audio(tmp_path: Path, monkeypatch, modality, modalities, asked):
    sound = LiveSound(live_settings(tmp_path, modality=modality), lambda _text: None)
    changes: list[Changes] = []
    session: Any = SimpleNamespace(facts=updates.Facts(modalities=modalities), change=changes.append)
    sound._session = session
    monkeypatch.setattr(sound, "_open_speaker", lambda _device, _warn: setattr(sound, "speaker", _Speaker(0)))
    monkeypatch.setattr(sound, "_open_microphone", lambda _device, _warn: None)
    monkeypatch.setattr(sound, "_renew_echo", lambda: None)
    for direction in sound._directions:
        sound._open(direction, None, print)  # type: ignore[arg-type]
    assert changes == asked


def no_sound(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "asound.conf").write_text("pcm.none { type hw card 77 }\n")  # PortAudio dies of an empty one
    return {"ALSA_CONFIG_PATH": str(tmp_path / "asound.conf"), "PULSE_SERVER": f"unix:{tmp_path}/none"}


def test_without_a_device_the_session_is_in_text_and_says_so(tmp_path):
    with TalkingServer("Hello.") as server:
        with Terminal("chat", "--no-record", "--url", server.url, **no_sound(tmp_path)) as terminal:
            shown = terminal.wait_for(READY)
            assert "[no microphone and no speaker: in text until one is plugged in]" in shown
            assert "type a line to talk" in shown
            terminal.type("hello\r")
            terminal.wait_for("> hello\nHello.\n>")
            assert server.seen.get(timeout=HEARD_LIMIT_S)["session"]["output_modalities"] == ["text"], (
                "nobody would hear it"
            )
            terminal.type(".help\r")
            assert ".mute" not in terminal.wait_for(".speaker NAME")
            terminal.type(".mute\r")
            terminal.wait_for("[there is no microphone]")
            terminal.type(".devices\r")
            terminal.wait_for("microphones:\n      none\nspeakers:\n      none")
            leave(terminal)


def test_piped_input_by_voice_ends_with_its_answer_where_nobody_can_speak(tmp_path):
    with TalkingServer("Hello.") as server:
        args = ("chat", "--voice", "--no-record", "--url", server.url)
        done = realtime(*args, stdin="hi\n", **no_sound(tmp_path))
    assert (done.returncode, done.stdout) == (0, "Hello.\n"), done.stderr


def test_text_asks_for_no_device(tmp_path):
    with TalkingServer("Hello.") as server:
        with Terminal("chat", "--text", "--no-record", "--url", server.url, **no_sound(tmp_path)) as terminal:
            assert "microphone" not in terminal.wait_for(READY)
            leave(terminal)
    done = realtime("chat", "--text", "--voice", "--local")
    assert (done.returncode, done.stderr) == (
        2,
        "realtime: --voice and --text exclude each other (to speak and read the answers: --modality text)\n",
    )


@again_after_a_stall
def test_a_device_that_is_not_there_is_told_before_anything_else(sound_card: SoundCard):
    done = realtime("chat", "--voice", "--local", "--mic", "nonesuch")
    assert done.returncode == 2
    assert done.stderr.startswith("realtime: flag --mic: no microphone matches 'nonesuch'; there are: ")


# The pure parts.


@pytest.mark.parametrize(("level_dbfs", "shown"), [(-96, "-----"), (-50, "-----"), (-49, "#----"), (-1, "#####")])
def test_bar(level_dbfs, shown):
    assert bar(level_dbfs) == shown
    assert bar(float("-inf")) == "-----"


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (90, "listening | both speak | mic ##--- Built-in Audio.. | speaker #---- card1"),
        (60, "listening | both speak | mic ##--- | speaker #----"),
        (40, "listening | mic ##--- | speaker #----"),
        (20, "listening"),
        (6, "listen"),
    ],
)
def test_the_row_fits(columns, shown):
    status = Status(
        microphone="Built-in Audio Analog Stereo",
        speaker="card1",
        microphone_dbfs=-35,
        speaker_dbfs=-45,
        user_speaks=True,
        assistant_speaks=True,
    )
    assert "".join(text for _, text in status_row(status, columns)) == shown


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        (Status(speaker="s"), "no microphone"),
        (Status(speaker="s", thinking=True), "thinking"),
        (Status(microphone="m", thinking=True), "thinking"),
        (Status(microphone="m", muted=True, push_to_talk=True), "muted"),
        (Status(microphone="m", push_to_talk=True, thinking=True), "talk, F2 ends"),
        (Status(microphone="m", push_to_talk=False), "F2 to talk"),
        (Status(microphone="m", away=True, thinking=True), "no connection, listening: words are kept"),
        (Status(microphone="m", away=True, push_to_talk=True), "no connection, talk, F2 ends: words are kept"),
        (Status(microphone="m", away=True, push_to_talk=False), "no connection, F2 to talk"),
        (Status(microphone="m", away=True, muted=True), "no connection, muted"),
        (Status(speaker="s", away=True), "no connection"),
    ],
)
def test_states(status, shown):
    assert status_row(status, 100)[0] == ("state", shown)


@pytest.mark.parametrize(
    ("sent", "passed", "releases"),
    [
        ("plain \x1b[A\x1b[12~\x1b", "plain \x1b[A\x1b[12~\x1b", 0),
        ("\x1b[Q", "\x1bOQ", 0),  # keys that the protocol writes differently
        ("\x1b[1;1:2Q", "", 0),  # the talk key does not repeat
        ("x\x1b[120;1:3u", "x", 0),
        ("\x1b[1;1:3Q\x1b[32;5:3u\x1b[12;1:3~", "", 3),
        ("\x1b[1;1:2A\x1b[3;1:2~\x1b[1;5:2C", "\x1b[A\x1b[3~\x1b[1;5C", 0),
        ("\x1b[1;1:3A", "", 0),
    ],
)
def test_reports_of_keys_are_taken_out(sent, passed, releases):
    for parts in ([sent], [sent[:3], sent[3:]], [sent[:-1], sent[-1:]]):
        reports = KeyReports()
        assert reports.feed("\x1b[?0u") == ("", 0)
        results = [reports.feed(part) for part in parts]
        if not any(part.endswith("\x1b") for part in parts[:-1]):  # a lone escape is a key
            assert ("".join(text for text, _ in results), sum(count for _, count in results)) == (passed, releases)


def test_nothing_is_held_back_from_a_terminal_without_reports():
    reports = KeyReports()
    assert reports.feed("\x1b[") == ("\x1b[", 0)
    assert not reports.answered


class _Hand:
    """A clock that is moved by hand."""

    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.now_s


def test_a_tap_switches_and_a_held_key_ends_its_turn():
    key, clock = TalkKey(), _Hand()
    switch = TalkSwitch(key, clock)
    switch.press()
    clock.now_s += HELD_S / 2
    switch.release()
    assert key.pressed, "a tap stays on"
    switch.press()
    switch.release()
    assert not key.pressed, "the next tap ends it"
    switch.press()
    clock.now_s += HELD_S
    switch.release()
    assert not key.pressed, "it was held"
    switch.release()
    assert not key.pressed
