"""Live voice when something fails: told once, and the session goes on; and devices that are chosen and do not work."""

from __future__ import annotations

import base64
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_helpers import realtime
from fake_portaudio import FakePortAudio, broken, fake_portaudio, in_time
from scripted_server import Peer, ScriptedServer
from sound_card import wait_until
from text_server import TextServer, answers

from realtime_client import updates as up
from realtime_client.audio import devices
from realtime_client.audio.echo.control import EchoControl, EchoMode
from realtime_client.audio.lines import feed, line
from realtime_client.chat.answers import Wishes
from realtime_client.chat.limits import ChatLimits
from realtime_client.chat.place import Place
from realtime_client.chat.wires.openai_chat import OpenAIChat
from realtime_client.cli.chat_voice import ChatVoice
from realtime_client.client.client import RealtimeClient
from realtime_client.client.endpoint import Endpoint
from realtime_client.errors import QueueFullError, UsageError
from realtime_client.handover import StandbyClient
from realtime_client.opening import opened
from realtime_client.settings import Settings, load_settings
from realtime_client.talk.assembly import LiveSound
from realtime_client.talk.turns import TurnMode
from realtime_client.talk.voice import LiveVoice

NAMES = ("card1", "card2", "gone", "ear in", "horn out")
SPEAKERS = "0 'card1', 1 'card2', 2 'gone', 4 'horn out'"
MICROPHONES = "0 'card1', 1 'card2', 2 'gone', 3 'ear in'"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakePortAudio]:
    monkeypatch.setenv("PULSE_SERVER", f"unix:{tmp_path}/none")
    with fake_portaudio(monkeypatch, *NAMES) as module:
        module.on["open"] = broken("gone")
        yield module
    wait_until(devices.can_refresh, what="the calls that hung")


def talk(peer: Peer) -> None:
    """Answer each request with ten seconds of sound, without an end; a typed `speech` is heard as the user's voice."""
    peer.greet()
    count, name = 0, ""
    sound = base64.b64encode(np.full(24_000, 1000, "<i2").tobytes()).decode()
    while True:
        event = peer.receive()
        if event["type"] == "session.update":
            peer.greet()
            peer.send(type="session.updated", event_id="e", session=event["session"])
        elif event["type"] == "response.cancel":
            response = {"id": event["response_id"], "status": "cancelled", "output": []}
            peer.send(type="response.done", event_id="e", response=response)
        elif event["type"] == "conversation.item.create" and "speech" in str(event):
            peer.send(type="input_audio_buffer.speech_started", event_id="e", audio_start_ms=0, item_id="item_user")
            peer.send(type="response.done", event_id="e", response={"id": name, "status": "cancelled", "output": []})
        elif event["type"] == "response.create":
            count += 1
            name = f"resp_{count}"
            part = {"response_id": name, "item_id": f"item_{count}", "output_index": 0, "content_index": 0}
            peer.send(type="response.created", event_id="e", response={"id": name, "status": "in_progress"})
            peer.send(type="response.output_audio_transcript.delta", event_id="e", delta=f"answer {count}", **part)
            for _ in range(10):
                peer.send(type="response.output_audio.delta", event_id="e", delta=sound, **part)


class Scene:
    """A session by voice, what it told, and what a chat shows of it."""

    def __init__(self, client: RealtimeClient, sound: LiveSound, warnings: list[str]) -> None:
        self.client, self.sound, self.warnings = client, sound, warnings
        self.told: list[up.Update] = []
        self.shown: list[str] = []
        self.chat = ChatVoice(sound, self, lambda: client.answering)  # type: ignore[arg-type]  # what it uses of it
        client.observe(self._note)

    def notice(self, text: str) -> None:
        """Stand in for the screen."""
        self.shown.append(text)

    def _note(self, update: up.Update, _at_s: float) -> None:
        self.told.append(update)
        if isinstance(update, up.DeviceChanged):
            self.chat.device_changed(update)

    def of(self, kind: type[up.Update]) -> list[Any]:
        return [update for update in list(self.told) if type(update) is kind]

    def begin_an_answer(self) -> tuple[str, int]:
        """Have an answer heard for a while; returns its part."""
        self.client.respond()
        part = ("item_1", 0)
        wait_until(lambda: (self.sound.speaker.heard_ms(*part) or 0) > 100, 10, "the answer")
        return part


def voice_settings(url: str, **values: Any) -> Settings:
    return load_settings({"url": url, "record": False, "echo": "headphones", **values})


@contextmanager
def scene(**values: Any) -> Iterator[Scene]:
    warnings: list[str] = []
    with ScriptedServer(talk) as server:
        settings = voice_settings(server.url, **values)
        sound = LiveSound(settings, warnings.append)
        with opened(settings, sound=sound) as held:
            yield Scene(held.session, sound, warnings)


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*_args: Any, **_options: Any) -> None:
        raise error

    return fail


# The voice's way to the session.


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (QueueFullError("the outbox is full"), "the outbox is full"),
        (ValueError("odd"), "internal error: ValueError('odd')"),
    ],
)
def test_blocks_that_cannot_be_sent_are_told_once_and_the_others_are_sent(fake, monkeypatch, error, told):
    with scene() as now:
        sent: list[int] = []
        send = now.client.send_audio

        def send_audio(audio: bytes) -> None:
            sent.append(len(audio))
            if 10 < len(sent) <= 15:
                raise error
            send(audio)

        monkeypatch.setattr(now.client, "send_audio", send_audio)
        wait_until(lambda: now.shown[1:], 10, "the end of the trouble")
        assert now.shown == [f"[the microphone is not heard: {told}]", "[the microphone is heard again]"]
        assert len(sent) >= 65
        wait_until(lambda: len(sent) >= 80, 10, "more blocks")
        assert now.client.error is None


@pytest.mark.parametrize("kind", [up.Captured, up.DeviceChanged, up.Audible])
def test_a_direct_observer_that_fails_stops_neither_the_voice_nor_what_is_told(fake, kind):
    with scene() as now:

        def fail(update: up.Update, _at_s: float) -> None:
            if type(update) is kind:
                raise RuntimeError("an observer")

        now.client.observe(fail, direct=True)
        now.begin_an_answer()
        fake.running("input").end()
        wait_until(lambda: len(now.of(up.Captured)) > 1, 10, "the microphone after a gap")
        wait_until(lambda: len(now.of(up.Audible)) > 3, 10, "what is heard")
        now.chat.take(".speaker", "card2")
        wait_until(lambda: "[the speaker is now card2 (chosen)]" in now.shown, 10, "the change")
        sent = now.client.stats().traffic.frames_out
        wait_until(lambda: now.client.stats().traffic.frames_out > sent + 10, 10, "the microphone")
        wait_until(lambda: [text for text in now.shown if "internal error: RuntimeError('an observer')" in text])
        assert now.client.error is None


def test_sound_that_cannot_be_played_is_told_once_and_the_answer_is_shown(fake, monkeypatch):
    with scene() as now:
        monkeypatch.setattr(now.sound.speaker, "play", failing(ValueError("odd")))
        now.client.respond()
        wait_until(lambda: len(now.of(up.AudioDelta)) == 10, 10, "the answer")
        wait_until(lambda: now.shown, 10, "the trouble")
        assert now.shown == ["[the answer is not heard: internal error: ValueError('odd')]"]
        monkeypatch.setattr(now.sound.speaker, "cut", failing(ValueError("odd")))
        monkeypatch.setattr(type(now.sound.speaker), "idle", False)
        now.client.send_text("next")
        wait_until(lambda: len(now.of(up.AudioDelta)) == 20, 10, "the next answer")
        assert now.client.error is None


def test_an_echo_control_that_cannot_be_renewed_is_told_and_the_speaker_moves(fake, monkeypatch):
    with scene() as now:
        monkeypatch.setattr(now.sound, "_renew_echo", failing(ValueError("odd")))
        now.chat.take(".speaker", "card2")
        wait_until(lambda: len(now.shown) == 3, 10, "the change")
        assert now.shown[1] == "[the speaker is now card2 (chosen)]"
        assert now.shown[2] == "[echo control stays as for the devices before: internal error: ValueError('odd')]"
        assert now.sound.speaker.device.name == "card2"


@pytest.mark.parametrize("device", ["microphone", "speaker"])
def test_what_fails_at_the_end_leaves_no_device_open(fake, monkeypatch, device):
    with scene() as now:
        failing_one = getattr(now.sound, device)
        close = failing_one.close
        monkeypatch.setattr(now.sound, "_silence", lambda _client: None)

        def fail() -> None:
            close()
            raise ValueError("odd")

        monkeypatch.setattr(failing_one, "close", fail)
        with pytest.raises(ValueError, match="odd"):
            now.sound.close()
        monkeypatch.setattr(failing_one, "close", close)
    assert devices.refresh(), "no stream is left open"


# A cut, and a device that is slow to stop.


@pytest.mark.parametrize("cause", ["typed", "speech"])
def test_a_device_that_is_slow_to_stop_holds_up_neither_calls_nor_frames(fake, monkeypatch, cause):
    for module in (feed, line):
        monkeypatch.setattr(module, "CALL_LIMIT_S", 20.0)
    gate, entered = threading.Event(), threading.Event()
    with scene() as now:
        try:
            part = now.begin_an_answer()
            fake.on["abort"] = lambda _name: (entered.set(), gate.wait(20))
            if cause == "typed":
                in_time(lambda: now.client.send_text("next"), 5)
            else:
                now.client.send_text("speech", respond=False)
                wait_until(lambda: now.of(up.Interrupted), 5, "the cut")
                in_time(now.client.respond, 5)
            assert entered.wait(5), "the device is told to stop"
            wait_until(lambda: [u for u in now.of(up.TextDelta) if u.text == "answer 2"], 5, "the frames that follow")
            (cut,) = now.of(up.Interrupted)
            assert cut.cause == cause
            assert 100 < cut.heard_ms < cut.received_ms
            assert cut.heard_ms == now.sound.speaker.heard_ms(*part)
            assert not gate.is_set()
            gate.set()
            wait_until(lambda: (now.sound.speaker.heard_ms("item_2", 0) or 0) > 100, 10, "the next answer")
        finally:
            gate.set()
            fake.on.pop("abort", None)


# A device that is chosen and is not there, or does not work.


@pytest.mark.parametrize(
    ("command", "wanted", "told"),
    [
        (".speaker", "nonesuch", f"no speaker matches 'nonesuch'; there are: {SPEAKERS}"),
        (".mic", "nonesuch", f"no microphone matches 'nonesuch'; there are: {MICROPHONES}"),
        (".speaker", "9", f"no speaker matches '9'; there are: {SPEAKERS}"),
        (".speaker", "-1", f"no speaker matches '-1'; there are: {SPEAKERS}"),
        (".speaker", "²", f"no speaker matches '²'; there are: {SPEAKERS}"),
        (".speaker", "9" * 5000, f"no speaker matches '{'9' * 5000}'; there are: {SPEAKERS}"),
        (".speaker", "card", "several devices match 'card': 0 'card1', 1 'card2'"),
        (".mic", "CARD", "several devices match 'CARD': 0 'card1', 1 'card2'"),
        (".speaker", "3", f"'ear in' is no speaker; there are: {SPEAKERS}"),
        (".mic", "horn", f"'horn out' is no microphone; there are: {MICROPHONES}"),
        (".speaker", "", "name a speaker: its index or a part of its name; .devices lists them"),
    ],
)
def test_a_device_that_is_not_there_changes_nothing(fake, command, wanted, told):
    with scene() as now:
        with pytest.raises(UsageError) as caught:
            now.chat.take(command, wanted)
        assert str(caught.value) == told
        assert now.shown == []
        assert (now.sound.speaker.device.name, now.sound.microphone.device.name) == ("card1", "card1")
    assert (devices.remembered("output"), devices.remembered("input")) == (None, None)


@pytest.mark.parametrize(
    ("command", "kind", "there"),
    [
        (".speaker", "speaker", "0 'card1', 1 'card2', 4 'horn out'"),
        (".mic", "microphone", "0 'card1', 1 'card2', 3 'ear in'"),
    ],
)
def test_a_device_that_does_not_open_is_refused_and_another_is_taken(fake, command, kind, there):
    direction = "output" if kind == "speaker" else "input"
    with scene() as now:
        now.chat.take(command, "gone")
        wait_until(lambda: now.shown[1:], 10, "the answer")
        why = "'gone' cannot be opened: No such device (PortAudio -9996)"
        assert now.shown == [f"[asked for the {kind} gone]", f"[the {kind} stays card1: {why}; there are: {there}]"]
        assert devices.remembered(direction) is None
        now.chat.take(command, "card2")
        wait_until(lambda: f"[the {kind} is now card2 (chosen)]" in now.shown, 10, "the answer")
        wait_until(lambda: devices.remembered(direction) == "card2", 5)
        assert now.sound._wishes[direction] == "card2"


@pytest.mark.parametrize(
    ("values", "warnings", "remembered"),
    [
        ({"speaker": "gone", "mic": "gone"}, True, (None, None)),
        ({"speaker": "card2", "mic": "1"}, False, ("card2", "card2")),
    ],
)
def test_flags_are_remembered_only_if_the_device_works(fake, values, warnings, remembered):
    with scene(**values) as now:
        why = "'gone' cannot be opened: No such device (PortAudio -9996)"
        expected = [f"{why}; the speaker is card1", f"{why}; the microphone is card1"] if warnings else []
        assert now.warnings == expected
    assert (devices.remembered("output"), devices.remembered("input")) == remembered


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., Any]:
    """`realtime devices` with the devices of this test."""
    names = ", ".join(map(repr, NAMES))
    (tmp_path / "sounddevice.py").write_text(
        f"import sys, fake_portaudio as f\nm = sys.modules[__name__] = f.FakePortAudio({names})\n"
        "m.on['open'] = f.broken('gone')\n"
    )
    path = f"{tmp_path}:{Path(__file__).parent}:{':'.join(sys.path)}"
    return lambda *args: realtime("devices", *args, PYTHONPATH=path)


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (
            ["--use-speaker", "card2", "--use-microphone", "no"],
            2,
            f"no microphone matches 'no'; there are: {MICROPHONES}",
        ),
        (["--use-speaker", "99"], 2, f"no speaker matches '99'; there are: {SPEAKERS}"),
        (["--use-speaker", "card"], 2, "several devices match 'card': 0 'card1', 1 'card2'"),
        (["--use-microphone", "horn out"], 2, f"'horn out' is no microphone; there are: {MICROPHONES}"),
        (["--use-speaker", " "], 2, "name a speaker: its index or a part of its name"),
        (["--play", ""], 2, "name a speaker: its index or a part of its name"),
        (["--play", "gone"], 1, "'gone' cannot be opened: No such device (PortAudio -9996)"),
        (["--meter", "gone"], 1, "'gone' cannot be opened: No such device (PortAudio -9996)"),
    ],
)
def test_the_command_refuses_what_is_not_there_and_remembers_nothing(command, args, code, told):
    done = command(*args)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (code, f"realtime: {told}")
    assert (devices.remembered("output"), devices.remembered("input")) == (None, None)


def test_the_command_says_that_a_device_gives_no_sound_now(command):
    done = command("--use-speaker", "gone")
    assert done.returncode == 0
    assert done.stderr == "'gone' is remembered, but gives no sound now; `realtime devices` lists all\n"
    assert devices.remembered("output") == "gone"


@pytest.mark.parametrize("mode", TurnMode)
def test_a_microphone_goes_on_in_silence_when_a_text_model_takes_over(mode: TurnMode):
    """What it hears goes nowhere, and nobody is told that it is not heard, or heard again: `Notice` has said so."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        peer.drop()

    voice = LiveVoice(mode=mode)
    with ScriptedServer(script) as server, TextServer(answers("In writing.")) as text:
        where = Place(provider="openai", model="one", base_url=text.url, wire=OpenAIChat())
        client = StandbyClient(
            Endpoint(url=server.url, proxy=None), places=[where], wishes=Wishes(), chat_limits=ChatLimits()
        )
        told: list[up.Update] = []
        with client:
            client.observe(lambda update, _at_s: told.append(update), direct=True)
            voice.start(client, None, EchoControl(client.input_format.rate_hz, EchoMode.HEADPHONES))
            try:
                assert client.next_answer(after=lambda: client.send_text("Hello?"), timeout_s=10).text == "In writing."
                voice.key.press()
                for n in range(20):
                    voice.on_block(np.full(480, 9_000, np.int16), n * 0.02)
                voice.key.release()
                voice.on_block(np.zeros(480, np.int16), 0.4)
            finally:
                voice.close()
        assert [each for each in told if isinstance(each, up.DeviceChanged)] == []
