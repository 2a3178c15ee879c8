"""`serve --brain` and `--brain` beside `--local`: text models with a voice, as people start them."""

from __future__ import annotations

import json
import signal

import pytest
from cli_helpers import LIMIT_S, realtime, started
from text_server import TextServer, answers, refuses

import realtime_client
from realtime_client.local.processes import CAN_SHARE_PORT


@pytest.mark.parametrize(
    "processes", [1, pytest.param(2, marks=pytest.mark.skipif(not CAN_SHARE_PORT, reason="Linux"))]
)
def test_serve_answers_with_a_text_model(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with TextServer(answers("I am ", "the model.")) as text:
        monkeypatch.setenv("OPENAI_BASE_URL", text.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-brain-123456789")
        args = ("--brain", "openai/test", "--temperature", "0.5", "--token", "open-sesame-123456", "--processes")
        with started("serve", *args, str(processes)) as server:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            with realtime_client.connect(url=url, token="open-sesame-123456", record=False) as session:
                answer = session.ask("Who are you?", timeout_s=LIMIT_S)
                assert (answer.text, bool(answer.audio)) == ("I am the model.", True)
            server.send_signal(signal.SIGTERM)
            _, errors = server.communicate(timeout=LIMIT_S)
        assert (server.returncode, errors) == (0, f"answers are made by openai/test at {text.host}\n")
        asked = text.request(0)
        assert asked.headers["authorization"] == "Bearer sk-brain-123456789"
        assert asked.json["temperature"] == 0.5


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize(
    ("brain", "words"),
    [
        ("llama", "flag --brain: llama: not a text model: their names begin with one of ollama/, "),
        ("anthropic/claude", "flag --brain: anthropic/claude: there is no key: set ANTHROPIC_API_KEY"),
    ],
)
def test_a_brain_that_cannot_be_asked_is_told_before_anything_is_served(brain: str, words: str, processes: str) -> None:
    done = realtime("serve", "--brain", brain, "--processes", processes)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_say_with_a_brain_of_its_own() -> None:
    with TextServer(answers("I am the model.")) as text:
        args = ("say", "--local", "--brain", "openai/test", "--json", "--no-record", "Who are you?")
        done = realtime(*args, OPENAI_BASE_URL=text.url)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["text"] == "I am the model."
        assert f"as asked: talking to the built-in local server with openai/test at {text.host};" in done.stderr
        refused = realtime("say", "--brain", "openai/test", "Hello?", OPENAI_BASE_URL=text.url)
        assert refused.returncode == 2
        assert "flag --brain: only the built-in local server takes a brain: add --local" in refused.stderr
        assert len(text.requests) == 1


def test_a_brain_that_fails_is_told_in_its_words() -> None:
    with TextServer(refuses(429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}})) as text:
        args = ("say", "--local", "--brain", "openai/test", "--request-retries", "0", "--no-record", "Who are you?")
        done = realtime(*args, OPENAI_BASE_URL=text.url)
        assert done.returncode == 1
        _, failure = done.stderr.splitlines()
        assert failure == "realtime: the answer failed: openai/test: slow down"


def test_what_a_brain_waits_for_is_told_in_plain_lines() -> None:
    with TextServer(refuses(503, b"busy"), answers("At last.")) as text:
        environ = {
            "OPENAI_BASE_URL": text.url,
            "OPENAI_API_KEY": "sk-brain-123456789",
            "REALTIME_RETRY_DELAY_S": "0.01",
        }
        args = ("say", "--local", "--text", "--no-record", "--brain", "openai/test", "Hello?")
        done = realtime(*args, **environ)
    assert (done.returncode, done.stdout) == (0, "At last.\n")
    greeting, told = done.stderr.splitlines()
    assert greeting.startswith("as asked: talking to the built-in local server with openai/test")
    assert told.startswith("openai/test: busy; asking again")
    assert "[warning" not in told
