"""A real Chromium, driven through its DevTools protocol, and folders with something to report."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from recording_helpers import Stage
from websockets.sync.client import connect

from realtime_client import updates as up
from realtime_client.audio.files import write_wav
from realtime_client.batch.result import CaseResult, CheckResult, Fault, RunInfo, StepResult, ToolUse
from realtime_client.protocol import events as ev
from realtime_client.protocol.items import Item

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LIMIT_S = 30.0
_FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--mute-audio", "--hide-scrollbars",
    "--remote-debugging-port=0", "--window-size=1100,900",
]  # fmt: skip
# What is handed to the sound device, told to the test.
_LISTEN = """
window.heard = [];
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (when, offset, duration) {
  const data = this.buffer.getChannelData(0);
  let sum = 0;
  const rate = this.buffer.sampleRate;
  const first = Math.floor(offset * rate), last = Math.min(data.length, Math.floor((offset + duration) * rate));
  for (let i = first; i < last; i++) sum += data[i] * data[i];
  window.heard.push({when, offset, duration, rms: Math.sqrt(sum / Math.max(1, last - first)), rate});
  return start.call(this, when, offset, duration);
};
window.acted = 0;
window.alert = window.prompt = window.confirm = () => { window.acted += 1; };
"""


class Browser:
    """One Chromium without a window; pages are opened in it."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        command = [CHROMIUM, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            self._socket = connect(self._address(profile), max_size=None, open_timeout=LIMIT_S, compression=None)
        except BaseException:
            self.close()
            raise
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def _address(self, profile: Path) -> str:
        """Wait for the file in which Chromium tells its port."""
        file, ends = profile / "DevToolsActivePort", time.monotonic() + LIMIT_S
        while time.monotonic() < ends and self.process.poll() is None:
            lines = file.read_text().split() if file.exists() else []
            if len(lines) == 2:
                return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
            try:
                self.process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        raise AssertionError("Chromium did not start")

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its result; events that come meanwhile are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        self._socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        while True:
            answer = self.next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def next(self) -> dict[str, Any]:
        message = json.loads(self._socket.recv(timeout=LIMIT_S))
        if "method" in message:
            self.events.append(message)
        return message

    @contextmanager
    def page(self, path: Path, **options: Any):
        """Open a file in a page of its own."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        try:
            page = Page(self, session)
            page.open(path, **options)
            yield page
        finally:
            self.call("Target.closeTarget", targetId=target)

    def close(self) -> None:
        if hasattr(self, "_socket"):
            self._socket.close()
        self.process.kill()
        self.process.wait(LIMIT_S)


class Page:
    """One page."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **params)

    def open(self, path: Path, *, width: int = 1100, height: int = 900, dark: bool = False) -> None:
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.addScriptToEvaluateOnNewDocument", source=_LISTEN)
        self.look(width=width, height=height, dark=dark)
        self.url = path.resolve().as_uri()
        self.call("Page.navigate", url=self.url)
        self.wait_event("Page.loadEventFired")

    def look(self, *, width: int = 1100, height: int = 900, dark: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def events(self, *methods: str) -> list[dict[str, Any]]:
        mine = [event for event in self._browser.events if event.get("sessionId") == self._session]
        return [event["params"] for event in mine if event["method"] in methods]

    def wait_event(self, method: str) -> None:
        while not self.events(method):
            self._browser.next()

    def js(self, expression: str) -> Any:
        """Evaluate in the page; a promise is awaited."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def until(self, expression: str) -> Any:
        """Wait, in the page, until an expression is true; returns its value."""
        wait = """new Promise((done, failed) => {
          const ends = performance.now() + %d;
          const look = () => {
            const value = (%s);
            if (value) done(value);
            else if (performance.now() > ends) failed(new Error("never came true"));
            else setTimeout(look, 15);
          };
          look();
        })"""
        return self.js(wait % (LIMIT_S * 500, expression))

    def click(self, selector: str) -> None:
        """Click in the middle of what is there, as a hand would."""
        box = self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center', behavior: 'instant'}});"
            " const b = e.getClientRects()[0]; return [b.x + Math.min(b.width / 2, 40), b.y + b.height / 2]; })()"
        )
        self.click_at(*box)

    def click_at(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def key(self, key: str, *, text: str = "", shift: bool = False) -> None:
        code = {
            " ": 32,
            "Enter": 13,
            "Tab": 9,
            "ArrowLeft": 37,
            "ArrowUp": 38,
            "ArrowRight": 39,
            "ArrowDown": 40,
            "Home": 36,
            "End": 35,
        }
        common = {"key": key, "modifiers": 8 if shift else 0, "windowsVirtualKeyCode": code.get(key, 0)}
        text = text or {" ": " ", "Enter": "\r"}.get(key, "")
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def complaints(self) -> list[str]:
        """Whatever the console or the policy said, and every exception."""
        said = [event["entry"].get("text", "") for event in self.events("Log.entryAdded")]
        said += [
            str(event["args"])
            for event in self.events("Runtime.consoleAPICalled")
            if event["type"] in ("error", "warning")
        ]
        said += [event["exceptionDetails"].get("text", "") for event in self.events("Runtime.exceptionThrown")]
        return said

    def requests(self) -> list[str]:
        """Every address that was asked for, but the page's own."""
        asked = [event["request"]["url"] for event in self.events("Network.requestWillBeSent")]
        return [url for url in asked if url.partition("#")[0] != self.url]


# Folders.

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg/onload=alert(3)>"
    "\u2028\u202egnp.exe\u202c\x1b[31m\x00 <!-- ]]> {{7*7}} ${alert(4)} javascript:alert(5) &lt;b&gt;"
)


def speech(text: str, voice: str = "marin") -> np.ndarray:
    """Speech at 24 kHz."""
    from realtime_client.audio.resample import resample
    from realtime_client.local.voice import EspeakVoice

    engine = EspeakVoice()
    pcm = b"".join(engine.speak(text, voice=voice))
    return np.frombuffer(resample(pcm, engine.rate_hz, 24_000), "<i2")


def make_session(base: Path) -> Path:
    """A session: a question spoken, an answer that is cut, a tool, an answer that is heard out, a lost connection."""
    stage = Stage(base, heard_ms=lambda _item, _part: 2000)
    question, story, answer = (
        speech("What happened then?", "echo"),
        speech("The keeper took her trumpet. " * 4),
        speech("It is sunny."),
    )
    stage.wait(0.5)
    stage.hear(ev.InputAudioBufferSpeechStarted(item_id="item_1", audio_start_ms=0))
    stage.mic(question.tobytes())
    stage.hear(ev.InputAudioBufferSpeechStopped(item_id="item_1", audio_end_ms=len(question) // 24))
    stage.committed("item_1", text="What happened then?")
    stage.wait(0.4)
    stage.answer_begins("item_2", "resp_1", "item_1")
    stage.answer_text("item_2", "resp_1", "The keeper took her trumpet. " * 4)
    stage.answer_audio("item_2", "resp_1", story.tobytes())
    stage.wait(2.0)
    stage.type("Stop, please. What is the weather?")
    stage.answer_ends("item_2", "resp_1", "The keeper took her trumpet. " * 4, status="cancelled")
    stage.hear(ev.ResponseCreated(response=ev.Response(id="resp_2", status="in_progress", output=[])))
    call = Item(
        type="function_call",
        id="item_4",
        call_id="call_1",
        name="get_weather",
        arguments='{"city": "Paris"}',
        status="completed",
    )
    stage.hear(ev.ResponseOutputItemAdded(response_id="resp_2", output_index=0, item=call))
    stage.hear(ev.ConversationItemAdded(item=call))
    stage.hear(
        ev.ResponseFunctionCallArgumentsDone(
            response_id="resp_2",
            item_id="item_4",
            output_index=0,
            call_id="call_1",
            name="get_weather",
            arguments='{"city": "Paris"}',
        )
    )
    stage.hear(ev.ResponseOutputItemDone(response_id="resp_2", output_index=0, item=call))
    stage.hear(ev.ResponseDone(response=ev.Response(id="resp_2", status="completed", output=[call], usage=USAGE)))
    stage.wait(0.3)
    stage.answer("item_5", "It is sunny.", answer.tobytes(), "item_4")
    stage.wait(2.0)
    stage.notice(up.ConnectionLost(code=1006, reason="the cable"))
    stage.close(ended="connection lost")
    return stage.folder


USAGE = {"total_tokens": 1234, "input_tokens": 1000, "output_tokens": 234}


def make_hostile(base: Path) -> Path:
    """A session in which everything that can be a string is an attack, the folder's name included."""
    folder = base / "<img src=x onerror=alert(9)>"
    folder.mkdir(parents=True)
    line = {
        "n": 1, "who": "assistant", "item_id": HOSTILE, "text": HOSTILE + " And more.", "heard": HOSTILE, "cut_ms": 500,
        "start_s": 0.0, "end_s": 1.0, "audio": HOSTILE, "interrupted": True, "status": HOSTILE,
    }  # fmt: skip
    tool = line | {
        "n": 2,
        "who": "tool",
        "type": "function_call",
        "text": f"{HOSTILE}({HOSTILE})",
        "heard": "",
        "cut_ms": None,
    }
    result = tool | {"n": 3, "type": "function_call_output"}
    odd = {"n": HOSTILE, "who": HOSTILE, "text": {"a": 1}, "start_s": "NaN", "end_s": -4}
    huge = line | {"n": 4, "who": "user", "text": "A" * 3_000_000, "heard": "A" * 3_000_000, "cut_ms": None}
    _lines(folder / "transcript.jsonl", [line, tool, result, odd, huge, [1], HOSTILE])
    events = [
        {"type": HOSTILE, "transcript": HOSTILE, HOSTILE: HOSTILE},
        {"type": "error", "error": {"message": HOSTILE, "code": HOSTILE}},
        {
            "type": "response.output_audio_transcript.delta",
            "delta": HOSTILE,
            "item_id": HOSTILE,
            "response_id": HOSTILE,
        },
        {"type": "response.output_audio_transcript.delta", "delta": {"no": "string"}},
        HOSTILE,
        ["a", "list"],
        {"type": 7},
    ]
    places = [{"file": "../../etc/passwd", "offset": 0, "length": 10}]
    _lines(
        folder / "journal.jsonl",
        [
            {"n": i, "t": i / 10, "dir": HOSTILE if i else "in", "event": e, "audio": places}
            for i, e in enumerate(events)
        ],
    )
    with (folder / "journal.jsonl").open("ab") as file:
        file.write(b"\xff\xfe not JSON\n" + b"[" * 100_000 + b"\n" + b'{"torn')
    session = dict.fromkeys(("state", "started", "how_it_ended", "model", "session_id"), HOSTILE) | {
        "version": 1, "duration_s": HOSTILE, "settings": {HOSTILE: HOSTILE}, "session": {"instructions": HOSTILE},
        "usage": {"total_tokens": HOSTILE, HOSTILE: 1}, "transcription_usage": {HOSTILE: 3}, "responses": {HOSTILE: 1},
        "gaps": [{"from_s": 0.2, "to_s": None, "reason": HOSTILE, "direction": HOSTILE}, HOSTILE], "notes": [HOSTILE],
        "last_errors": [{"message": HOSTILE}], "rate_limits": {HOSTILE: [1]}, "stats": {HOSTILE: HOSTILE}, "errors": HOSTILE,
    }  # fmt: skip
    (folder / "session.json").write_text(json.dumps(session))
    write_wav(folder / "conversation.wav", np.stack([speech("Hello there.")[:24_000]] * 2, 1).tobytes(), 24_000, 2)
    return folder


def make_run(base: Path, *, hostile: bool = False) -> Path:
    """A run of three cases, one of each outcome."""
    folder = base / "run"
    (folder / "sessions").mkdir(parents=True)
    session = make_session(folder / "sessions")
    bad = HOSTILE if hostile else ""
    recording = f"sessions/{session.name}"
    check = CheckResult(
        kind="contains" + bad,
        ok=False,
        expected="sunny" + bad,
        seen="rainy" + bad,
        message=bad,
        turn=1,
        score=0.5,
        place="a.yaml:3:5" + bad,
    )
    tool = ToolUse(name="get_weather" + bad, arguments='{"city": "Paris"}' + bad, output="rainy" + bad)
    step = StepResult(
        n=1,
        kind="text",
        said="What is the weather?" + bad,
        answer="It is rainy." + bad,
        heard="It is",
        cut_ms=300,
        tools=[tool],
        latencies={"first_audio": 321.0, "x" + bad: 1.0},
    )
    common = {
        "scenario": "weather" + bad,
        "steps": [step],
        "tags": ["smoke" + bad, "tools"],
        "values": {"city" + bad: "Paris" + bad},
    }
    fault = Fault(kind="HostUnreachableError" + bad, message="nothing listens there" + bad, infrastructure=True)
    results = [
        CaseResult(
            case="weather-1" + bad,
            status="passed",
            recording=recording,
            latencies={"first_audio": [210.0, 260.0]},
            duration_s=2.0,
            cost_usd=0.01,
            usage={"total_tokens": 50},
            checks=[CheckResult(kind="contains", ok=True, expected="sunny", seen="It is sunny.")],
            **common,
        ),
        CaseResult(
            case="weather-2" + bad,
            status="failed",
            recording="../../outside",
            latencies={"first_audio": [900.0]},
            duration_s=9.0,
            checks=[check],
            **common,
        ),
        CaseResult(
            case="greeting" + bad,
            scenario="greeting",
            status="error",
            fault=fault,
            attempts=3,
            duration_s=1.0,
            tags=["greeting"],
        ),
    ]
    (folder / "results.jsonl").write_bytes(b"".join(msgspec.json.encode(result) + b"\n" for result in results))
    info = RunInfo(
        run="nightly" + bad,
        state="ended",
        started="2026-11-20T03:00:00Z",
        duration_s=12.0,
        target="ws://127.0.0.1:1" + bad,
        cases=[r.case for r in results],
        options={"jobs" + bad: bad},
    )
    (folder / "run.json").write_bytes(msgspec.json.encode(info))
    return folder


def _lines(path: Path, values: list[Any]) -> None:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
