"""The SDKs and frameworks that speak this protocol, against `realtime serve`.

Each has an environment of its own (scripts/sdk-environments) and a small program in tests/sdks, written as its users
would, that holds one conversation and prints what it learns of it, one JSON object a fact.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import LIMIT_S, started
from local_frames import Json, server_frames
from local_helpers import flite

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
TOKEN = "token-of-the-sdks"
DRIVER_LIMIT_S = 80.0
QUESTIONS = {
    "count": "count to three",
    "weather": "what is the weather in paris",
    "long": "count to one hundred",
    "sum": "what is two plus two",
}
HEARD = ["count to three", "what is the weather in paris", "count to hundred", "what is two plus two"]
ANSWERED = ["hello.", "One, two, three.", "The tool says: sunny.", "2 plus 2 is 4."]


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what is asked, as PCM16 of 24 kHz; the silence after it ends the turn."""
    folder = tmp_path_factory.mktemp("questions")
    for name, text in QUESTIONS.items():
        (folder / f"{name}.pcm").write_bytes(bytes(48 * 300) + flite(text) + bytes(48 * 1_000))
    return folder


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server for all of them: its ears load once."""
    with started("serve", "--beta", "--quiet", "--token", TOKEN, stderr=None) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=LIMIT_S)


def run(name: str, program: str, *args: str) -> dict[str, list[Any]]:
    """Run a program of tests/sdks/NAME in that SDK's environment; what it told, by kind."""
    place, source = ROOT / ".venv" / "sdks" / name, ROOT / "tests" / "sdks" / name / program
    if not (place / "made-from").exists():
        pytest.skip(f"there is no {place}: scripts/sdk-environments makes it")
    foreign = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}  # the environments are kept: so is what is compiled in them
    environ = {key: value for key, value in os.environ.items() if key not in foreign}
    command, stdin = [str(place / "bin" / "python"), str(source), *args], ""
    if source.suffix == ".mjs":  # which finds its packages from the folder that it is read in
        if shutil.which("node") is None:
            pytest.skip("there is no node")
        command, stdin = ["node", "--input-type=module", "-", *args], source.read_text(encoding="utf-8")
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DRIVER_LIMIT_S,
            cwd=place,
            env=environ,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        told = [stream.decode() if isinstance(stream, bytes) else stream for stream in (late.stdout, late.stderr)]
        pytest.fail(f"{name} did not come to its end in {DRIVER_LIMIT_S:.0f} s:\n{told[0]}\n{told[1]}")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    sys.stderr.write(f"{done.stdout}\n{done.stderr}")  # shown when the test fails
    facts: dict[str, list[Any]] = defaultdict(list)
    for line in done.stdout.splitlines():
        for kind, value in json.loads(line).items():
            facts[kind].append(value)
    return facts


@pytest.mark.parametrize(
    ("name", "program"),
    [
        ("openai", "sync_driver.py"),
        ("openai", "async_driver.py"),
        ("openai-agents", "driver.py"),
        ("agents-realtime", "driver.mjs"),
        ("pipecat", "driver.py"),
        ("livekit", "driver.py"),
    ],
)
def test_a_spoken_conversation(name: str, program: str, url: str, questions: Path) -> None:
    """A written line, a question, a tool call, an answer that is interrupted, and the question that interrupts it."""
    facts = run(name, program, url, TOKEN, str(questions))
    assert facts["error"] == []
    assert facts["heard"] == HEARD
    assert facts["called"] == [{"city": "paris"}]
    assert [text.strip() for text in facts["answered"]] == ANSWERED
    assert all(400 < audio_ms < 5_000 for audio_ms in facts["audio_ms"])
    (interrupted,) = facts["interrupted"]
    assert interrupted.startswith("One,")
    assert "hundred" not in interrupted
    if name not in {"pipecat", "livekit"}:  # which do not tell
        assert facts["truncated_ms"][-1] > 0
    for history in facts["history"]:
        turns = ["user", "assistant", "user", "assistant", "user", "function_call", "assistant"]
        assert history == [*turns, "user", "assistant", "user", "assistant"]


def test_the_beta_shape(url: str, questions: Path) -> None:
    """A written and a spoken question, by an SDK of its time."""
    facts = run("openai-beta", "driver.py", url, TOKEN, str(questions))
    assert facts["error"] == []
    assert facts["heard"] == ["what is two plus two"]
    assert [text.strip() for text in facts["answered"]] == ["One, two, three.", "2 plus 2 is 4."]
    assert all(400 < audio_ms < 5_000 for audio_ms in facts["audio_ms"])


REMOTE = [
    *(f"mcp_list_tools.{step}" for step in ("in_progress", "completed", "failed")),
    *(f"response.mcp_call.{step}" for step in ("in_progress", "completed", "failed")),
    *(f"response.mcp_call_arguments.{step}" for step in ("delta", "done")),
]


def has_image(frame: Json) -> bool:
    return any(part["type"] == "input_image" for part in frame.get("item", {}).get("content", ()))


def is_remote_or_transcription(frame: Json) -> bool:
    items = [frame.get("item", {}), *frame.get("response", {}).get("output", ())]
    remote = any(item.get("type", "").startswith("mcp_") for item in items)
    return remote or frame.get("session", {}).get("type") == "transcription"


@pytest.mark.parametrize(
    ("name", "program", "foreign", "unknown"),
    [
        (
            "agents-realtime",
            "judge.mjs",
            has_image,
            {"input_audio_buffer.timeout_triggered", "response.mcp_call.failed"},
        ),
        (
            "pipecat",
            "judge.py",
            is_remote_or_transcription,
            {"input_audio_buffer.timeout_triggered", *REMOTE},
        ),
    ],
)
def test_every_message_fits_the_strictest_models(
    name: str, program: str, foreign: Any, unknown: set[str], tmp_path: Path
) -> None:
    """They tell null from absent, and demand what others may lack. foreign: what the SDK has no words for at all."""
    frames = [frame for frame in server_frames() if not foreign(frame)]
    path = tmp_path / "frames.jsonl"
    path.write_text("".join(f"{json.dumps(frame)}\n" for frame in frames), encoding="utf-8")
    facts = run(name, program, str(path))
    assert list(zip(facts["refused"], facts["why"], strict=True)) == []
    assert set(facts["unknown"]) == unknown
    assert facts["taken"] == [len(frames) - len(facts["unknown"])]
