#!/usr/bin/env python3
"""How long a report of one hour takes: to build (goal: 5 s) and to open in Chromium (goal: 2 s).

The hour is made here, of real speech: 600 exchanges with interruptions and tool calls, a microphone that sends 20 ms
blocks, answers in 100 ms deltas: some 210,000 messages.

    python scripts/bench/report.py [MINUTES]
"""

from __future__ import annotations

import json
import resource
import shutil
import statistics
import sys
import tempfile
import time
import wave
from pathlib import Path

import numpy as np

import realtime_client
from realtime_client.report import write_report

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from report_helpers import CHROMIUM, Browser

RATE = 24_000
EXCHANGE_S = 6.0
ROUNDS = 5


def speech() -> tuple[str, np.ndarray]:
    """A text and its sound."""
    with realtime_client.connect(local=True, record=False) as client:
        answer = client.ask("Tell me a long story.", timeout_s=60)
    return answer.text, np.frombuffer(answer.audio, "<i2")


class Hour:
    """Writes a session's folder."""

    def __init__(self, folder: Path, minutes: float) -> None:
        self.folder = folder
        self.exchanges = max(1, round(minutes * 60 / EXCHANGE_S))
        self.text, self.sound = speech()
        self.journal: list[str] = []
        self.transcript: list[str] = []
        self.n = 0

    def note(self, t: float, way: str, event: dict, updates: list | None = None, audio: list | None = None) -> None:
        self.n += 1
        line = {"n": self.n, "t": round(t, 6), "wall": 1.79e9 + t, "dir": way, "event": event, "updates": updates or []}
        self.journal.append(json.dumps(line | ({"audio": audio} if audio else {}), separators=(",", ":")))

    def turn(
        self, n: int, who: str, text: str, start: float, end: float, *, heard: str | None = None, **more: object
    ) -> None:
        line = {
            "n": n, "who": who, "item_id": f"item_{n}", "text": text, "heard": text if heard is None else heard,
            "cut_ms": None, "start_s": start, "end_s": end, "audio": f"turns/{n:04}-{who}.wav", "interrupted": False,
            "status": "completed",
        }  # fmt: skip
        self.transcript.append(json.dumps(line | more))

    def exchange(self, index: int, stereo: np.ndarray) -> None:
        """The user speaks for 2.2 s, the assistant for 3 s; the microphone is noisy all the time."""
        at = index * EXCHANGE_S
        noise = np.random.default_rng(index).integers(-20, 20, round(EXCHANGE_S * RATE))
        stereo[:, 0] = noise
        for channel, start, seconds in ((0, 0.2, 2.2), (1, 2.8, 3.0)):
            first, length = round(start * RATE), round(seconds * RATE)
            source = (index * 7919) % max(1, len(self.sound) - length)
            stereo[first : first + length, channel] = self.sound[source : source + length]
        cut = index % 5 == 0
        words = self.text[(index * 131) % 300 :][:60].strip() + ". And so on."
        self.turn(2 * index + 1, "user", "What happened then, and why?", at + 0.2, at + 2.4)
        cut_ms = 2000 if cut else None
        self.turn(
            2 * index + 2, "assistant", words, at + 2.8, at + 5.8, heard=words[:40], interrupted=cut, cut_ms=cut_ms
        )
        self.events(index, at, words)

    def events(self, index: int, at: float, words: str) -> None:
        user, item, response = f"item_{2 * index + 1}", f"item_{2 * index + 2}", f"resp_{index}"
        place = {"file": "conversation.wav", "offset": 0, "length": 1920, "channel": "left"}
        for block in range(round(EXCHANGE_S / 0.02)):
            sent = {"type": "input_audio_buffer.append", "audio": ""}
            self.note(at + block * 0.02, "out", sent, [{"kind": "input_sent"}], [place])
            if block == 120:
                for kind, more in (("speech_stopped", {"at_ms": 0}), ("committed", {})):
                    told = {"kind": kind if more else "input_committed", "item_id": user, **more}
                    self.note(at + 2.4, "in", {"type": f"input_audio_buffer.{kind}", "item_id": user}, [told])
                told = {"kind": "response_started", "response_id": response}
                self.note(at + 2.41, "in", {"type": "response.created", "response": {"id": response}}, [told])
        part = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
        of = {name: part[name] for name in ("response_id", "item_id", "content_index")}
        for word in words.split():
            told = {"kind": "text_delta", **of, "text": word + " ", "spoken": True}
            event = {"type": "response.output_audio_transcript.delta", **part, "delta": word + " "}
            self.note(at + 2.7, "in", event, [told])
        file = f"turns/{2 * index + 2:04}-assistant.wav"
        late = index % 13 / 40
        for delta in range(30):
            place = {"file": file, "offset": delta * 4800, "length": 4800}
            event = {"type": "response.output_audio.delta", **part, "delta": ""}
            self.note(at + 2.7 + delta / 60 + late, "in", event, [{"kind": "audio_delta", **of, "audio": ""}], [place])
        for kind in ("output_audio.done", "output_audio_transcript.done", "content_part.done", "output_item.done"):
            self.note(at + 3.4, "in", {"type": f"response.{kind}", **part, "transcript": words})
        done = {"id": response, "status": "completed", "usage": {"total_tokens": 400}}
        told = {"kind": "response_done", "response_id": response, "status": "completed"}
        self.note(at + 3.5, "in", {"type": "response.done", "response": done}, [told])

    def write(self) -> None:
        with wave.open(str(self.folder / "conversation.wav"), "wb") as file:
            file.setnchannels(2)
            file.setsampwidth(2)
            file.setframerate(RATE)
            for index in range(self.exchanges):
                stereo = np.zeros((round(EXCHANGE_S * RATE), 2), "<i2")
                self.exchange(index, stereo)
                file.writeframes(stereo.tobytes())
        (self.folder / "journal.jsonl").write_text("\n".join(self.journal) + "\n")
        (self.folder / "transcript.jsonl").write_text("\n".join(self.transcript) + "\n")
        session = {"version": 2, "state": "ended", "how_it_ended": "closed", "model": "gpt-realtime"}
        session |= {"started": "2026-11-20T09:00:00Z", "duration_s": self.exchanges * EXCHANGE_S}
        session |= {"usage": {"total_tokens": 400 * self.exchanges}}
        (self.folder / "session.json").write_text(json.dumps(session))


def open_s(browser: Browser, report: Path) -> tuple[float, float, float]:
    """Seconds from asking for the page to its load event and to the first click's sound, and to its first picture."""
    begin = time.perf_counter()
    with browser.page(report) as page:
        loaded = time.perf_counter() - begin
        page.until("document.querySelectorAll('#event-rows tr').length")
        painted = page.js("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? -1")
        begin = time.perf_counter()
        page.click("#turn-6 .s")
        page.until("window.heard.length")
        return loaded, time.perf_counter() - begin, painted / 1000


def main() -> None:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    folder = Path(tempfile.mkdtemp())
    try:
        hour = Hour(folder, minutes)
        hour.write()
        size = (folder / "conversation.wav").stat().st_size
        print(
            f"{minutes:g} min: {hour.n:,} messages, {2 * hour.exchanges} turns, {size / 1e6:.0f} MB of PCM", flush=True
        )
        measure(folder)
    finally:
        shutil.rmtree(folder)


def cpu_s() -> float:
    """CPU that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(folder: Path) -> None:
    builds, used = [], cpu_s()
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        written = write_report(folder)
        builds.append(time.perf_counter() - begin)
    used = (cpu_s() - used) / ROUNDS
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    spread = f"best {min(builds):.2f}, worst {max(builds):.2f}; {used:.2f} s of CPU"
    print(f"builds in {statistics.median(builds):.2f} s ({spread})")
    print(f"{written.size_bytes / 1e6:.1f} MB; peak memory {peak:.0f} MiB", flush=True)
    if CHROMIUM is None:
        print("Chromium is not installed, so nothing was opened")
        return
    browser = Browser(folder / "profile")
    try:
        seen = [open_s(browser, written.path) for _ in range(ROUNDS)]
    finally:
        browser.close()
    opens, clicks, paints = zip(*seen, strict=True)
    print(
        f"opens in {statistics.median(opens):.2f} s (best {min(opens):.2f}, worst {max(opens):.2f}),"
        f" picture after {statistics.median(paints):.2f} s; click to sound {statistics.median(clicks) * 1000:.0f} ms"
    )
    load = Path("/proc/loadavg")
    print(f"load of the machine meanwhile: {load.read_text().split()[0] if load.exists() else 'not known'}")


if __name__ == "__main__":
    main()
