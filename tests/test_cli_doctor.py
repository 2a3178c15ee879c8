"""The doctor, as a process: what it finds, what it says, how it ends."""

from __future__ import annotations

import json
import socket
import stat
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import Terminal, http_answer, realtime
from sound_card import RATE_HZ, SoundCard, again_after_a_stall

from realtime_client.doctor import checks as doctor
from realtime_client.local import LocalServer
from realtime_client.settings import Settings, load_settings
from realtime_client.talk import echo_memory

pytest_plugins = ["sound_card_fixture"]

TOKEN = "a-token-that-nobody-guesses-42"
KEY = "sk-abcdefghijklmnop-1234"
WITHOUT_PORTAUDIO = (
    "import sys; sys.modules['sounddevice'] = None; from realtime_client.cli import main; raise SystemExit(main())"
)


def report(*args: str, **environ: str) -> dict:
    done = realtime("doctor", "--json", *args, **environ)
    assert KEY not in done.stdout + done.stderr
    assert TOKEN not in done.stdout + done.stderr
    whole = json.loads(done.stdout)
    assert whole["exit_code"] == done.returncode
    return whole


def by_name(whole: dict) -> dict[str, dict]:
    return {check["name"]: check for check in whole["checks"]}


def test_without_key_or_sound_all_is_well_enough():
    whole = report(PULSE_SERVER="unix:/nowhere")
    checks = by_name(whole)
    assert whole["exit_code"] == 0
    assert whole["verdict"] in ("ok", "warn")
    assert whole["echo"] is None
    assert all(set(check) == {"name", "status", "text", "hint"} for check in whole["checks"])
    assert {"versions", "key", "endpoint", "handshake", "round trip", "clock", "recordings", "PortAudio"} <= set(checks)
    assert {f"extra {name}" for name in ("local", "aec", "language", "dask", "otel")} <= set(checks)
    assert checks["key"]["text"].startswith("none is needed")
    assert "ms" in checks["round trip"]["text"]
    assert checks["clock"]["status"] == "ok"


def test_a_server_that_lets_us_in():
    with LocalServer(token=TOKEN) as server:
        done = realtime("doctor", "--url", server.url, REALTIME_TOKEN=TOKEN, NO_COLOR="1")
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert any(line.startswith("ok    endpoint") and server.url in line for line in lines)
    assert any(line.startswith("ok    key") and "REALTIME_TOKEN" in line for line in lines)
    assert any(line.startswith("ok    clock") and "of the server's" in line for line in lines)
    assert "verdict" in lines[-1]
    assert "ready" in lines[-1]
    assert TOKEN not in done.stdout + done.stderr
    assert "\x1b" not in done.stdout


def test_a_wrong_token_is_5():
    with LocalServer(token=TOKEN) as server:
        whole = report("--url", server.url, REALTIME_TOKEN="wrong-token-12345678")
    assert whole["exit_code"] == 5
    assert whole["verdict"] == "fail"
    endpoint = by_name(whole)["endpoint"]
    assert endpoint["status"] == "fail"
    assert "key" in endpoint["text"]
    assert "handshake" not in by_name(whole)


def test_a_key_that_the_server_repeats_is_not_shown():
    body = json.dumps({"error": {"code": "invalid_api_key", "message": f"Incorrect API key provided: {KEY}."}})
    with http_answer(401, body.encode()) as url:
        whole = report("--url", url, OPENAI_API_KEY=KEY)
    assert whole["exit_code"] == 5
    assert "Incorrect API key provided: ***" in by_name(whole)["endpoint"]["text"]


def test_a_dead_host_is_3_and_the_rest_is_still_looked_at():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done = realtime("doctor", "--url", f"ws://127.0.0.1:{port}")
    assert done.returncode == 3
    assert done.stdout.splitlines()[-1].split(maxsplit=2) == ["fail", "verdict", "not ready: endpoint"]
    assert "recordings" in done.stdout
    assert "not compared: no server answered" in done.stdout


def test_a_server_that_is_none_is_8():
    with http_answer(404) as url:
        assert report("--url", url)["exit_code"] == 8


def test_a_folder_that_cannot_be_written_is_1(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    whole = report("--record-dir", str(blocked / "recordings"))
    assert whole["exit_code"] == 1
    assert by_name(whole)["recordings"]["status"] == "fail"


def test_nothing_is_left_behind(tmp_path):
    folder = tmp_path / "new" / "recordings"
    whole = report("--record-dir", str(folder))
    assert "it will be made" in by_name(whole)["recordings"]["text"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("date", "status", "says"),
    [
        ("", "ok", "sends no date"),
        ("yesterday", "ok", "sends no date"),
        ("Fri, 20 Nov 2026 12:00:00 GMT", "ok", "within 1 s"),
        ("Fri, 20 Nov 2026 11:00:00 GMT", "warn", "3600 s ahead of"),
        ("Fri, 20 Nov 2026 12:02:00 GMT", "warn", "120 s behind"),
    ],
)
def test_the_clock_is_compared_with_the_servers_date(date, status, says):
    found = doctor.check_clock(doctor.Handshake(checks=(), server_date=date, at_wall_s=1795176000.5))
    assert (found.status, says in found.text) == (status, True), found


def test_a_server_that_may_want_a_key_and_gets_none_is_a_remark():
    found = doctor.check_key(load_settings({"url": "ws://127.0.0.1:1/x"}, environ={}))
    assert found.status == "warn"
    assert (
        doctor.check_key(load_settings({}, environ={"OPENAI_API_KEY": KEY})).text == "from environment OPENAI_API_KEY"
    )
    assert doctor.check_key(Settings()).status == "ok"


def test_a_missing_extra_says_what_it_is_for_and_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "livekit", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    found = doctor.check_extra("aec")
    assert found.status == "warn"
    assert "echo cancellation" in found.text
    assert found.hint == "pip install 'realtime-client[aec]'"
    unneeded = doctor.check_extra("dask")
    assert (unneeded.status, unneeded.text) == ("ok", "not installed: scenarios played on a cluster")
    assert unneeded.hint == "pip install 'realtime-client[dask]'"


def test_without_portaudio_text_is_fine_and_echo_is_not(monkeypatch):
    monkeypatch.setattr("cli_helpers.COMMAND", [sys.executable, "-c", WITHOUT_PORTAUDIO])
    plain = report()
    assert plain["exit_code"] == 0
    assert by_name(plain)["PortAudio"]["status"] == "warn"
    assert "PortAudio is missing" in by_name(plain)["PortAudio"]["text"]
    echo = report("--echo")
    assert echo["exit_code"] == 1
    assert by_name(echo)["PortAudio"]["status"] == "fail"


def test_in_a_terminal_it_is_aligned_and_coloured_unless_no_color():
    with Terminal("doctor", columns=160) as terminal:
        assert terminal.wait_end() == 0
        assert b"\x1b[32mok" in terminal.raw
        rows = [line for line in terminal.text.splitlines() if line[:4].strip() in ("ok", "warn", "fail")]
        assert len(rows) >= 9
        assert all(row[4:6] == "  " and row[6] != " " and row[20:22] == "  " and row[22] != " " for row in rows)
    with Terminal("doctor", columns=160, NO_COLOR="1") as terminal:
        assert terminal.wait_end() == 0
        assert b"\x1b[3" not in terminal.raw


# On the virtual sound card.


def lag_ms(first: np.ndarray, second: np.ndarray) -> float:
    """How much later the second recording (48 kHz) has the sound of the first."""
    size = 1 << (first.size + second.size).bit_length()
    product = np.fft.irfft(np.fft.rfft(second, size) * np.fft.rfft(first, size).conj(), size)
    return float(np.argmax(product[: RATE_HZ // 2])) * 1000 / RATE_HZ


@again_after_a_stall
def test_an_echo_path_is_measured_and_remembered(sound_card: SoundCard):
    sound_card.echo(latency_ms=40)
    for _ in range(3):  # on a busy machine a device runs empty, which moves the sound; the doctor says so
        with sound_card.hear() as speaker, sound_card.hear_mic() as microphone:
            whole = report("--echo")
        if not whole["echo"]["faults"]:
            break
    shift = round((microphone.start_s() - speaker.start_s()) * RATE_HZ)
    played, heard = speaker.samples.astype(float), microphone.samples.astype(float)
    path_ms = lag_ms(played[max(0, shift) :], heard[max(0, -shift) :])
    echo = whole["echo"]
    assert whole["exit_code"] == 0, whole
    assert echo["heard"]
    assert echo["mode"] in ("aec", "half-duplex")
    # The devices move sound in blocks of 20 ms, and each of the two tapes knows its start to a few milliseconds.
    assert abs(echo["delay_ms"] - echo["device_latency_ms"] - path_ms) <= 25, (echo, path_ms)
    assert abs(echo["return_loss_db"]) < 3  # the path takes nothing away
    known = echo_memory.recall(echo["output"], echo["input"])
    assert known is not None
    assert known.mode == echo["mode"]
    assert known.path.delay_ms == echo["delay_ms"]
    assert stat.S_IMODE(echo_memory.memory_path().stat().st_mode) == 0o600
    again = by_name(report())["echo"]
    assert again["text"].startswith(echo["mode"])


def test_without_a_path_headphones_are_recommended(sound_card: SoundCard):
    noise = (np.random.default_rng(1).standard_normal(RATE_HZ * 12) * 20).astype("<i2").tobytes()
    with sound_card.speaking() as speaking:  # a microphone that hears its room, and not the speaker
        assert speaking.stdin is not None
        writer = threading.Thread(target=feed, args=(speaking, noise))
        writer.start()
        whole = report("--echo", "--speaker", "card1", "--mic", "card1")
        speaking.kill()
        writer.join()
    assert whole["exit_code"] == 0, whole
    assert whole["echo"]["heard"] is False
    assert whole["echo"]["mode"] == "headphones"
    known = echo_memory.recall("card1", "card1")
    assert known is not None
    assert known.mode == "headphones"


def feed(process, pcm: bytes) -> None:
    try:
        process.stdin.write(pcm)
        process.stdin.flush()
    except (BrokenPipeError, ValueError):
        return


def test_a_muted_microphone_is_told_apart_from_headphones(sound_card: SoundCard):
    whole = report("--echo")
    assert whole["exit_code"] == 1
    assert "digital silence" in by_name(whole)["echo"]["text"]
    assert not Path(echo_memory.memory_path()).exists()


def test_a_device_that_is_not_there_is_named(sound_card: SoundCard):
    whole = report("--echo", "--mic", "trombone")
    assert whole["exit_code"] == 1
    assert "trombone" in by_name(whole)["devices"]["text"]
