"""The commands against the built-in local server: no key, no network, everything on disk."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from pathlib import Path

import pytest
from cli_helpers import LIMIT_S, Terminal, realtime, started

from realtime_client.client.client import RealtimeClient
from realtime_client.errors import RecordingError, UsageError
from realtime_client.opening import connect
from realtime_client.updates import ResponseDone


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "rec"


def only_session(folder: Path) -> Path:
    (session,) = folder.iterdir()
    return session


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_without_a_key_the_local_server_answers_and_is_named(folder):
    done = realtime("chat", "--record-dir", str(folder), stdin="Count to three.\n")
    assert done.returncode == 0
    assert "three" in done.stdout.lower()
    assert "no OPENAI_API_KEY: talking to the built-in local server" in done.stderr
    session = only_session(folder)
    assert f"recording: {session}" in done.stderr
    assert "three" in (session / "transcript.md").read_text().lower()
    assert stat.S_IMODE(session.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(p.stat().st_mode) & 0o077 == 0 for p in session.rglob("*"))


def test_local_is_used_although_there_is_a_key_and_the_key_is_nowhere(folder):
    key = "sk-abcdefghijklmnop-1234"
    log = folder.parent / "log"
    done = realtime(
        "say", "Hello.", "--local", "--record-dir", str(folder), "--log-level", "debug", "--log-file", str(log),
        OPENAI_API_KEY=key, REALTIME_TOKEN="token-of-the-user-5678",
    )  # fmt: skip
    assert done.returncode == 0
    assert "as asked: talking to the built-in local server" in done.stderr
    found = everything_in(folder) + log.read_bytes() + (done.stdout + done.stderr).encode()
    assert key.encode() not in found
    assert b"token-of-the-user" not in found


def test_out_and_audio_make_a_round_trip(folder):
    spoken = folder.parent / "spoken.wav"
    made = realtime("say", "Repeat after me: one two three four five.", "--no-record", "--out", str(spoken))
    assert made.returncode == 0, made.stderr
    done = realtime("say", "--audio", str(spoken), "--json", "--record-dir", str(folder))
    report = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert report["status"] == "completed"
    assert report["text"]
    assert report["timings"]["audio_chunks"] > 0
    assert Path(report["files"]["recording"]) == only_session(folder)
    turns = sorted(path.name for path in (only_session(folder) / "turns").iterdir())
    assert [name.split("-")[1] for name in turns] == ["user.wav", "assistant.wav"]


@pytest.mark.parametrize("options", [["--turn-detection", "none"], ["--input-format", "g711_ulaw"], ["--paced"]])
def test_audio_reaches_the_server_in_every_way(folder, options):
    spoken = folder.parent / "spoken.flac"
    assert realtime("say", "Repeat after me: hello there.", "--no-record", "--out", str(spoken)).returncode == 0
    done = realtime("say", "--audio", str(spoken), "--no-record", *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_silence_is_not_a_turn(folder):
    from realtime_client.audio.files import write_wav

    silent = folder.parent / "silent.wav"
    write_wav(silent, bytes(24_000), 24_000)
    done = realtime("say", "--audio", str(silent), "--no-record")
    assert done.returncode == 1
    assert "no speech" in done.stderr


def test_a_recording_that_cannot_be_written_stops_the_session_before_it_begins(folder):
    folder.write_text("a file is in the way")
    done = realtime("say", "hello", "--record-dir", str(folder))
    assert done.returncode == 2
    assert "--no-record" in done.stderr
    with pytest.raises(RecordingError), connect(record_dir=folder):
        pass


def test_a_session_that_never_began_leaves_no_folder(folder):
    done = realtime("say", "hello", "--record-dir", str(folder), "--url", "ws://127.0.0.1:1")
    assert done.returncode == 3
    assert list(folder.iterdir()) == []


def test_serve_prints_its_url_and_asks_for_the_token():
    with started("serve", "--token", "open-sesame-123456") as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        assert url.startswith("ws://127.0.0.1:")
        say = ("say", "Say hello.", "--no-record", "--url", url)
        refused = realtime(*say, OPENAI_API_KEY="sk-the-wrong-key-1234")
        let_in = realtime(*say, REALTIME_TOKEN="open-sesame-123456")
        server.send_signal(signal.SIGTERM)
        _, errors = server.communicate(timeout=LIMIT_S)
    assert refused.returncode == 5
    assert "wrong-key" not in refused.stderr
    assert let_in.returncode == 0, let_in.stderr
    assert (server.returncode, errors) == (0, "")


def test_serve_ends_by_ctrl_c_with_a_client_connected():
    with started("serve") as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        with Terminal("chat", "--no-record", "--reconnect", "0", "--url", url) as terminal:
            terminal.wait_for(".quit to end\n>")
            server.send_signal(signal.SIGINT)
            assert server.wait(timeout=LIMIT_S) == 130
            assert terminal.wait_end() == 4


def test_serve_refuses_what_it_cannot_listen_on():
    done = realtime("serve", "--host", "no-such-host.invalid")
    assert done.returncode == 2
    assert "no-such-host.invalid" in done.stderr
    assert realtime("serve", "--port", "99999").returncode == 2


@pytest.mark.parametrize(
    ("args", "environ", "where"),
    [
        (("--token", ""), {}, "flag --token"),
        (("--token", "  "), {}, "flag --token"),
        ((), {"REALTIME_TOKEN": ""}, "environment REALTIME_TOKEN"),
        ((), {"REALTIME_TOKEN": " "}, "environment REALTIME_TOKEN"),
    ],
)
def test_serve_refuses_an_empty_token(args, environ, where):
    """`--token "$UNSET"` would let in everyone, without a word."""
    done = realtime("serve", *args, **environ)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"realtime: {where}: the ")
    assert done.stderr.count("\n") == 1


def test_serve_refuses_an_empty_token_in_the_config_file(tmp_path):
    (tmp_path / "config.toml").write_text('token = ""\n', encoding="utf-8")
    done = realtime("serve", REALTIME_CONFIG=str(tmp_path / "config.toml"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "the token is empty" in done.stderr


def test_chat_saves_its_transcript(folder):
    with Terminal("chat", "--record-dir", str(folder), columns=200) as terminal:
        terminal.wait_for(".quit to end\n>")
        terminal.type("Count to three.\r")
        terminal.wait_for("three.")
        terminal.type(".save\r")
        terminal.wait_for(f"[recording: {only_session(folder)}]")
        terminal.type(".save copy.md\r")
        terminal.wait_for("[saved copy.md]")
        terminal.type(".save copy.md\r")
        terminal.wait_for("exists already")
        terminal.type(".quit\r")
        assert terminal.wait_end() == 0
    assert "Count to three." in Path("copy.md").read_text()
    assert stat.S_IMODE(Path("copy.md").stat().st_mode) == 0o600


@pytest.mark.parametrize("options", [["--text"]])
def test_what_is_saved_right_after_an_answer_holds_it(folder, options):
    with Terminal("chat", "--local", *options, "--record-dir", str(folder), columns=200) as terminal:
        terminal.wait_for(".quit to end\n>")
        terminal.type("Count to three.\r")
        terminal.wait_for("three.\n>")
        saved, ends = "", time.monotonic() + LIMIT_S / 3
        while "three" not in saved.partition("**Assistant**")[2]:  # the end of the answer has no sign on the screen
            assert time.monotonic() < ends, saved
            Path("copy.md").unlink(missing_ok=True)
            terminal.type(".save copy.md\r")
            while not Path("copy.md").exists() or not Path("copy.md").stat().st_size:
                assert terminal._read(ends)
            saved = Path("copy.md").read_text()
        terminal.type(".quit\r")
        assert terminal.wait_end() == 0


def test_a_killed_session_can_be_recovered(folder):
    with Terminal("chat", "--record-dir", str(folder)) as terminal:
        terminal.wait_for(".quit to end\n>")
        terminal.type("Count to three.\r")
        terminal.wait_for("three.")
        terminal.signal(signal.SIGKILL)
        terminal.process.wait(timeout=LIMIT_S)
    done = realtime("recover", str(only_session(folder)))
    assert done.returncode == 0, done.stderr
    assert "three" in (only_session(folder) / "transcript.md").read_text().lower()


def test_connect_from_python(folder):
    with connect(local=True, record_dir=folder, modality="text") as client:
        answer = client.ask("Count to three.")
        with client.updates(timeout_s=10) as updates:
            client.send_text("Say hello.")
            done = next(update for update in updates if isinstance(update, ResponseDone))
    assert "three" in answer.text.lower()
    assert answer.audio == b""
    assert done.status == "completed"
    assert (only_session(folder) / "session.json").is_file()


def test_connect_takes_everything_apart_when_the_block_fails(folder):
    def fail(client: RealtimeClient) -> None:
        client.send_text("Say hello.")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), connect(local=True, record_dir=folder) as client:
        fail(client)
    assert json.loads((only_session(folder) / "session.json").read_text())


def test_connect_refuses_names_it_does_not_know():
    with pytest.raises(UsageError, match="voise"), connect(voise="x"):
        pass


def test_dotenv_in_the_current_folder_is_read():
    Path(".env").write_text("REALTIME_MODEL=from-dotenv\n")
    done = realtime("say", "Hello.", "--no-record", "--json")
    assert json.loads(done.stdout)["model"] == "from-dotenv"


def test_output_in_an_old_encoding_still_comes(folder):
    done = realtime("say", "Repeat after me: caf\u00e9.", "--no-record", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert done.returncode == 0
    assert "caf?" in done.stdout
    assert os.environ.get("PYTHONIOENCODING") is None
