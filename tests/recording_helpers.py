"""A session acted out: real messages through codec and conversation into a recorder, on a clock set by hand."""

import json
import wave

import numpy as np

from realtime_client import updates as up
from realtime_client.history import History
from realtime_client.protocol import codec
from realtime_client.protocol import events as ev
from realtime_client.protocol.conversation import Conversation
from realtime_client.protocol.items import ContentPart, Item
from realtime_client.protocol.media import meaning_of, media_of
from realtime_client.recording import Recorder

RATE = 24_000
SETTINGS = {"url": "ws://127.0.0.1:1/v1/realtime", "voice": "marin"}


class HandClock:
    """A clock that the test moves."""

    def __init__(self, now=1000.0):
        self.now = now

    def monotonic(self):
        return self.now

    def wall(self):
        return 1_795_000_000.0 + self.now


def sound(seconds, value=1000, rate_hz=RATE):
    """A ramp that tells where it was cut: every sample is different from its neighbours, none is 0."""
    n = round(seconds * rate_hz)
    return (np.arange(n) % 500 + value).astype("<i2").tobytes()


class Stage:
    """One session on a stage."""

    def __init__(self, base, *, secrets=(), flac=False, vad=True, transcribe=True, fmt=None, heard_ms=None, now=1000.0):
        self.clock = HandClock(now)
        self.recorder = Recorder.create(base, settings=SETTINGS, secrets=secrets, flac=flac, clock=self.clock)
        self.folder = self.recorder.folder
        history = History(most_entries=256)  # soon full: what grows after that is the recorder's
        self.talk = Conversation(heard_ms=heard_ms, history=history)
        fmt = fmt or {"type": "audio/pcm", "rate": RATE}
        self.session = {
            "type": "realtime", "id": "sess_1", "model": "gpt-realtime", "object": "realtime.session",
            "audio": {
                "input": {
                    "format": fmt,
                    "transcription": {"model": "whisper-1"} if transcribe else None,
                    "turn_detection": {"type": "server_vad"} if vad else None,
                },
                "output": {"format": fmt, "voice": "marin"},
            },
        }  # fmt: skip
        self.hear(ev.SessionCreated(session=self.session))

    def wait(self, seconds):
        self.clock.now += seconds

    def raw(self, frame):
        event = codec.decode_server(frame)
        self.recorder.received(frame, media_of(event, frame), self.talk.receive(event), self.clock.now)
        for command in self.talk.take_commands():
            self.say(command)

    def hear(self, event):
        self.raw(codec.encode(event))

    def say(self, event):
        frame = codec.encode(event)
        self.recorder.sent(frame, media_of(event, frame), meaning_of(event), self.clock.now)

    def notice(self, *updates):
        for update in updates:
            self.recorder.noticed(update, self.clock.now)
        for command in self.talk.take_commands():
            self.say(command)

    def type(self, text):
        item_id, happened = self.talk.say(text)
        self.notice(*happened)
        return item_id

    def mic(self, audio, *, block=960, live=True, rate=48_000):
        """Send audio in blocks; live: each when it has been spoken. rate: bytes a second."""
        for at in range(0, len(audio), block):
            piece = audio[at : at + block]
            if live:
                self.wait(len(piece) / rate)
            self.say(ev.InputAudioBufferAppend(audio=piece))

    def item(self, item_id, role="assistant", kind="output_audio", status="in_progress", **content):
        parts = [ContentPart(type=kind, **content)] if content else []
        return Item(type="message", id=item_id, role=role, status=status, content=parts)

    def committed(self, item_id, previous=None, text=None):
        self.hear(ev.InputAudioBufferCommitted(item_id=item_id, previous_item_id=previous))
        done = self.item(item_id, "user", "input_audio", "completed", transcript=None)
        self.hear(ev.ConversationItemAdded(item=done, previous_item_id=previous))
        self.hear(ev.ConversationItemDone(item=done, previous_item_id=previous))
        if text is not None:
            self.transcript(item_id, text)

    def transcript(self, item_id, text):
        self.hear(
            ev.InputTranscriptionCompleted(item_id=item_id, content_index=0, transcript=text, usage={"seconds": 1})
        )

    def answer_begins(self, item_id, response_id, previous=None):
        self.hear(ev.ResponseCreated(response=ev.Response(id=response_id, status="in_progress", output=[])))
        item = self.item(item_id)
        self.hear(ev.ResponseOutputItemAdded(response_id=response_id, output_index=0, item=item))
        self.hear(ev.ConversationItemAdded(item=item, previous_item_id=previous))

    def part(self, item_id, response_id):
        return {"response_id": response_id, "item_id": item_id, "output_index": 0, "content_index": 0}

    def answer_audio(self, item_id, response_id, audio, *, block=4800, every_s=0.001):
        for at in range(0, len(audio), block):
            self.wait(every_s)
            self.hear(ev.ResponseOutputAudioDelta(**self.part(item_id, response_id), delta=audio[at : at + block]))

    def answer_text(self, item_id, response_id, text):
        self.hear(ev.ResponseOutputAudioTranscriptDelta(**self.part(item_id, response_id), delta=text))

    def answer_ends(self, item_id, response_id, text, previous=None, status="completed"):
        part = self.part(item_id, response_id)
        self.hear(ev.ResponseOutputAudioDone(**part))
        self.hear(ev.ResponseOutputAudioTranscriptDone(**part, transcript=text))
        done = self.item(item_id, status="completed" if status == "completed" else "incomplete", transcript=text)
        self.hear(ev.ResponseOutputItemDone(response_id=response_id, output_index=0, item=done))
        self.hear(ev.ConversationItemDone(item=done, previous_item_id=previous))
        details = None if status == "completed" else ev.StatusDetails(type=status, reason="turn_detected")
        usage = {
            "total_tokens": 30, "input_tokens": 20, "output_tokens": 10,
            "input_token_details": {"text_tokens": 5, "audio_tokens": 15, "cached_tokens": 4},
            "output_token_details": {"text_tokens": 3, "audio_tokens": 7},
        }  # fmt: skip
        response = ev.Response(id=response_id, status=status, status_details=details, output=[done], usage=usage)
        self.hear(ev.ResponseDone(response=response))

    def answer(self, item_id, text, audio, previous=None):
        response_id = "resp_" + item_id
        self.answer_begins(item_id, response_id, previous)
        self.answer_text(item_id, response_id, text)
        self.answer_audio(item_id, response_id, audio)
        self.answer_ends(item_id, response_id, text, previous)

    def close(self, ended="closed"):
        self.recorder.close(ended=ended, stats={"turns": 1})
        assert not self.recorder.degraded

    # what is on disk

    def lines(self, name="transcript.jsonl"):
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]

    def session_json(self):
        return json.loads((self.folder / "session.json").read_text())

    def stereo(self):
        path = self.folder / "conversation.wav"  # there is none before the first sound
        samples = read_samples(path) if path.exists() else np.empty(0, "<i2")
        return samples[0::2], samples[1::2]


LOST = up.ConnectionLost(code=1006, reason="the cable", goes_on=True)
TRYING = up.Reconnecting(attempt=1, in_s=0.0, reason="the cable", left_s=300.0)


class LostStage(Stage):
    """A session that loses its connection, and what the session tells of it."""

    def lose(self):
        self.notice(LOST, TRYING)

    def keep(self, audio, *, block=960):
        """Speak while there is no connection."""
        for at in range(0, len(audio), block):
            piece = audio[at : at + block]
            self.wait(len(piece) / (2 * RATE))
            self.recorder.kept(piece, self.clock.now)

    def again(self, *events):
        """Tell the next server what is recorded already."""
        for event in events:
            frame = codec.encode(event)
            updates = (*meaning_of(event), up.SentAgain())
            self.recorder.sent(frame, media_of(event, frame), updates, self.clock.now)

    def audio_again(self, audio, *, block=4800):
        self.again(*(ev.InputAudioBufferAppend(audio=audio[at : at + block]) for at in range(0, len(audio), block)))

    def restore(self, *deleted, reason="lost", **fields):
        """The next server goes on. deleted: turns that it has to hear anew."""
        self.notice(*(up.ItemDeleted(item_id=item_id) for item_id in deleted))
        self.notice(up.Restored(reason=reason, **fields))

    def starts(self, item_id, at_s):
        self.hear(ev.InputAudioBufferSpeechStarted(item_id=item_id, audio_start_ms=round(at_s * 1000)))

    def stops(self, item_id, at_s):
        self.hear(ev.InputAudioBufferSpeechStopped(item_id=item_id, audio_end_ms=round(at_s * 1000)))

    def turns(self, who="user"):
        return [line for line in self.lines() if line["who"] == who]

    def spoken(self, line):
        return read_samples(self.folder / line["audio"]).tobytes()

    def user_files(self):
        return sorted(path.name for path in (self.folder / "turns").iterdir() if "user" in path.name)

    def journal(self):
        return [json.loads(line) for line in (self.folder / "journal.jsonl").read_text().splitlines()]


def read_samples(path):
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def runs(channel):
    """The stretches that are not silent, as (begin, end) in seconds; silences under 50 ms do not count."""
    loud = np.flatnonzero(channel)
    if not len(loud):
        return []
    breaks = np.flatnonzero(np.diff(loud) > RATE // 20)
    begins = [loud[0], *loud[breaks + 1]]
    ends = [*loud[breaks], loud[-1]]
    return [(round(b / RATE, 2), round((e + 1) / RATE, 2)) for b, e in zip(begins, ends, strict=True)]
