"""Each way to fail has one clear line and its own exit code."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import sys

import pytest
import trustme
from cli_helpers import COMMAND, LIMIT_S, http_answer, realtime, started
from scripted_server import Peer, ScriptedServer
from talking_server import TalkingServer

from realtime_client import cli
from realtime_client.version import __version__

SAY = ("say", "hello", "--no-record", "--open-timeout", "5")


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The message: the only line on stderr, with the program's name in front."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("realtime: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_version_imports_next_to_nothing():
    program = (
        "import sys; from realtime_client.cli import main; assert main(['--version']) == 0;"
        "heavy = {'click', 'msgspec', 'websockets', 'numpy', 'asyncio', 'prompt_toolkit'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=LIMIT_S)
    assert done.stdout == f"realtime {__version__}\n"


def test_the_client_is_not_imported_for_help():
    done = realtime("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("chat", "say", "serve", "settings", "recover"))
    assert realtime().stdout == done.stdout


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("say", "--frequency"), "--frequency"),
        (("sing",), "sing"),
        (("say", "--audio", "/nowhere.wav"), "/nowhere.wav"),
        (("say", "a", "--audio", __file__), "not an audio file"),
        (("say", ""), "the text is empty"),
        (("say", "-"), "the text is empty"),
        (("chat",), "standard input is empty"),
        (("say", "a", "--url", "nonsense"), "--url"),
        (("say", "a", "--url", "ws://h/x", "--local"), "two servers"),
        (("say", "a", "--speed", "9"), "--speed"),
        (("say", "a", "--out", "a.mp3"), ".wav or .flac"),
        (("say", "a", "--out", "/nowhere/a.wav"), "no folder"),
        (("say", "a", "--out", "a.wav", "--text-only"), "leave out --text"),
        (("say", "a", "--modality", "video"), "--modality"),
        (("recover", "/nowhere"), "/nowhere"),
    ],
)
def test_usage_is_2(args, says):
    done = realtime(*args)
    assert done.returncode == 2
    assert says in one_line(done)
    assert done.stdout == ""


def test_a_key_that_is_none_is_2_and_not_shown():
    done = realtime(*SAY, OPENAI_API_KEY="sk-hidden\nX-Evil: 1")
    assert done.returncode == 2
    assert "OPENAI_API_KEY" in one_line(done)
    assert "hidden" not in done.stderr


def test_standard_input_that_is_no_text_is_2():
    done = subprocess.run(
        [*COMMAND, "say", "-"],
        input=b"\xff\xfe\x80",
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 2
    assert b"--audio" in done.stderr


def test_a_dead_host_is_3():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done = realtime(*SAY, "--url", f"ws://127.0.0.1:{port}")
    assert done.returncode == 3
    assert "127.0.0.1" in one_line(done)


def test_a_host_that_does_not_exist_is_3():
    done = realtime(*SAY, "--url", "ws://no-such-host.invalid")
    assert done.returncode == 3
    assert "no-such-host.invalid" in one_line(done)


def test_a_refused_session_is_3():
    def refuse(peer: Peer) -> None:
        peer.send(
            type="error",
            event_id="e",
            error={"type": "invalid_request_error", "code": "invalid_model", "message": "No such model."},
        )
        peer.websocket.close(4000, "invalid_request_error.invalid_model")

    with ScriptedServer(refuse) as server:
        done = realtime(*SAY, "--url", server.url)
    assert done.returncode == 3
    assert "No such model." in one_line(done)


def test_a_lost_connection_is_4():
    def lose(peer: Peer) -> None:
        peer.greet()
        event = peer.receive("session.update")
        peer.send(type="session.updated", event_id="e", session=event["session"])
        peer.receive("response.create")
        peer.drop()

    with ScriptedServer(lose) as server:
        done = realtime(*SAY, "--url", server.url)
    assert done.returncode == 4
    one_line(done)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_5(status):
    with http_answer(status) as url:
        done = realtime(*SAY, "--url", url, REALTIME_TOKEN="the-wrong-token-1234")
    assert done.returncode == 5
    assert "the-wrong-token" not in done.stderr
    assert "key" in one_line(done)


def test_a_certificate_nobody_signed_is_6_and_can_be_trusted(tmp_path):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    with TalkingServer("Safe.", ssl=context) as server:
        url = server.url.replace("ws:", "wss:")
        refused = realtime(*SAY, "--url", url)
        trusted = realtime(*SAY, "--url", url, "--ca-file", str(ca_file))
    assert refused.returncode == 6
    assert "certificate" in one_line(refused)
    assert (trusted.returncode, trusted.stdout) == (0, "Safe.\n")


def test_no_tls_where_tls_is_asked_for_is_6():
    with TalkingServer() as server:
        done = realtime(*SAY, "--url", server.url.replace("ws:", "wss:"))
    assert done.returncode == 6
    one_line(done)


def test_too_many_requests_is_7():
    with http_answer(429, Retry_After="7") as url:
        done = realtime(*SAY, "--url", url)
    assert done.returncode == 7
    assert "7 s" in one_line(done)


@pytest.mark.parametrize("status", [200, 404])
def test_a_web_site_is_8(status):
    with http_answer(status, b"<html>\x1b[2J") as url:
        done = realtime(*SAY, "--url", url)
    assert done.returncode == 8
    assert "\x1b" not in one_line(done)


def test_a_websocket_that_is_not_realtime_is_8():
    def chatter(peer: Peer) -> None:
        peer.raw("hello, this is a chat room")
        peer.read_all()

    with ScriptedServer(chatter) as server:
        done = realtime(*SAY, "--url", server.url)
    assert done.returncode == 8
    one_line(done)


def test_a_failed_answer_is_1():
    with TalkingServer("Oh", status="failed") as server:
        done = realtime(*SAY, "--url", server.url)
    assert done.returncode == 1
    assert done.stdout == "Oh\n"
    assert "no model" in one_line(done)


def test_an_answer_that_does_not_come_is_1():
    with TalkingServer() as server:
        done = realtime(*SAY, "--url", server.url, "--timeout", "0.3")
    assert done.returncode == 1
    assert "--timeout" in one_line(done)


def test_say_prints_the_answer_alone_on_stdout():
    with TalkingServer("Hello", " you\x1b[0m.") as server:
        done = realtime(*SAY, "--url", server.url)
        quiet_server_said = [server.seen.get(timeout=5)["type"] for _ in range(3)]
    assert (done.returncode, done.stdout) == (0, "Hello you\x1b[0m.\n")  # a pipe gets what was said
    assert "talking to test-model at 127.0.0.1; nothing is recorded" in done.stderr
    assert quiet_server_said == ["session.update", "conversation.item.create", "response.create"]


def test_quiet_says_nothing_else():
    with TalkingServer("Hello.") as server:
        done = realtime(*SAY, "-q", "--url", server.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello.\n", "")


def test_piped_input_is_the_prompt():
    with TalkingServer("Fine.") as server:
        done = realtime("chat", "--no-record", "--url", server.url, stdin="How are\nyou?\n")
        item = next(
            e for e in iter(lambda: server.seen.get(timeout=5), None) if e["type"] == "conversation.item.create"
        )
    assert (done.returncode, done.stdout) == (0, "Fine.\n")
    assert item["item"]["content"][0]["text"] == "How are\nyou?"


def test_json_is_one_object():
    with TalkingServer("Hello \u4f60.") as server:
        done = realtime(*SAY, "--json", "--url", server.url)
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert set(report) == {
        "text", "transcript_in", "status", "reason", "error", "files", "timings", "usage", "session_id", "model", "calls",
        "tool_calls", "unreadable", "reconnects",
    }  # fmt: skip
    assert report["text"] == "Hello \u4f60."
    assert report["status"] == "completed"
    assert report["files"] == {"recording": None, "audio": None}
    assert report["usage"]["total_tokens"] == 12
    assert report["timings"]["first_text_ms"] > 0
    assert (report["session_id"], report["model"]) == ("sess_test", "test-model")


@pytest.mark.parametrize(("which", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_turn_cleanly(which, code):
    with TalkingServer() as server:
        server.words.put("Begun")
        with started(*SAY, "--url", server.url) as process:
            assert process.stdout is not None
            assert process.stdout.read(5) == "Begun"
            process.send_signal(which)
            _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == code
    assert "realtime: " not in errors
    assert "Traceback" not in errors


def test_a_signal_while_connecting_ends_it():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}"
        with started(*SAY, "--url", url) as process:
            listener.settimeout(LIMIT_S)
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(10)
                process.send_signal(signal.SIGINT)
                _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_a_signal_while_reading_the_prompt_ends_it():
    with started("chat", "--no-record", "--log-level", "debug") as process:
        assert process.stdin is not None
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=LIMIT_S)
    assert process.returncode in (-signal.SIGTERM, 143)


def test_a_closed_output_ends_it_quietly():
    with TalkingServer() as server:
        server.words.put("Begun")
        with started(*SAY, "-q", "--url", server.url) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.read(5) == "Begun"
            process.stdout.close()
            server.say(*["more"] * 50)
            assert process.wait(timeout=LIMIT_S) == 141
            assert process.stderr.read() == ""


def test_what_nobody_expected_is_70_with_a_hint(monkeypatch, capsys):
    def broken(*_: object, **__: object) -> None:
        raise KeyError("gone\n\x1b[2J")

    monkeypatch.setattr("realtime_client.cli.options.load_settings", broken)
    assert cli.main(["settings"]) == 70
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "-vv" in message
    assert "\x1b" not in message
    assert cli.main(["settings", "-vv"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_settings_shows_values_and_sources_without_secrets():
    key = "sk-abcdefghijklmnop-1234"
    done = realtime("settings", "--voice-name", "marin", OPENAI_API_KEY=key)
    assert done.returncode == 0
    assert key not in done.stdout
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line}
    assert lines["voice"].split() == ["voice", "marin", "flag", "--voice-name"]
    assert "set (...1234)" in lines["api_key"]
    assert "environment OPENAI_API_KEY" in lines["api_key"]
    report = json.loads(realtime("settings", "--json", OPENAI_API_KEY=key).stdout)
    assert report["endpoint"]["url"] == "wss://api.openai.com/v1/realtime?model=gpt-realtime-2.1"
    assert report["settings"]["api_key"] == {"value": "set (...1234)", "source": "environment OPENAI_API_KEY"}
