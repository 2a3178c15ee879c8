"""Every command with standard streams that are closed or full, with names no file can have, and without a home."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from pathlib import Path

import pytest
from cli_helpers import COMMAND, LIMIT_S, Terminal, realtime

from realtime_client.cli import main, streams
from realtime_client.errors import UsageError
from realtime_client.settings import Settings, config_path, load_settings, recordings_folder

LONG = "n" * 300
SCENARIO = "name: hello\nturns:\n  - text: Hello.\n"


def shell(redirection: str, *args: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a shell that redirects its streams. Nothing may end in a traceback, or as a fault of ours."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" "$@" {redirection}', *COMMAND, *args],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env=os.environ | environ,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.returncode != 70, done.stderr
    return done


def complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith("realtime: ")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scenario, a recording and a run."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "scenario.yaml").write_text(SCENARIO)
    recorded = realtime("say", "Hello.", "--local", "--record-dir", str(folder / "recordings"))
    run = realtime("run", str(folder / "scenario.yaml"), "--local", "--no-record", "--out", str(folder / "run"))
    assert (recorded.returncode, run.returncode) == (0, 0), recorded.stderr + run.stderr
    (session,) = (folder / "recordings").iterdir()
    session.rename(folder / "session")
    return folder


COMMANDS = [
    ["--version"],
    ["--help"],
    ["say", "Hello.", "--local", "--no-record"],
    ["say", "Hello.", "--local", "--no-record", "--json"],
    ["chat", "--local", "--no-record"],
    ["settings"],
    ["doctor", "--no-record"],
    ["check", "scenario.yaml"],
    ["check", "--schema"],
    ["run", "scenario.yaml", "--local", "--no-record", "--out", "new", "--fast", "--jobs", "1"],
    ["compare", "run", "run"],
    ["report", "session", "--out", "report.html"],
    ["recover", "session"],
]


NOTICES = ("say", "chat", "doctor", "run", "report")  # these write to standard error, too


def named(args: list[str]) -> str:
    return " ".join(args)


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: that of `made`, where every test writes its own files."""
    for path in made.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("args", COMMANDS, ids=named)
def test_a_result_that_cannot_be_written_is_2_and_said(args):
    done = shell(">/dev/full", *args, stdin="Hello.")
    assert done.returncode == 2, done.stderr
    assert complaints(done) == ["realtime: standard output cannot be written: No space left on device"]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("args", COMMANDS[1:3], ids=named)
def test_and_where_python_does_not_buffer(args):
    done = shell(">/dev/full", *args, PYTHONUNBUFFERED="1")
    assert done.returncode == 2
    assert complaints(done) == ["realtime: standard output cannot be written: No space left on device"]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "args", [COMMANDS[0], COMMANDS[2], ["run", "scenario.yaml", "--out", "new"], ["serve"]], ids=named
)
def test_a_closed_standard_output_is_told_before_anything_is_done(args):
    done = shell(">&-", *args)
    assert done.returncode == 2
    assert done.stderr == "realtime: standard output is closed; if the result is not wanted: >/dev/null\n"
    assert not Path("new").exists()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("redirection", "args"), [(way, args) for way in ("2>&-", "2>/dev/full") for args in COMMANDS if args[0] in NOTICES]
)
def test_without_standard_error_all_goes_on(args, redirection):
    done = shell(redirection, *args, stdin="Hello.")
    assert done.returncode == 0
    assert done.stdout


@pytest.mark.parametrize("redirection", ["2>&-", ">&- 2>&-", ">/dev/full 2>/dev/full"])
def test_a_mistake_has_its_code_though_nobody_can_read_of_it(redirection):
    assert shell(redirection, "say", "Hello.", "--speed", "9").returncode == 2


@pytest.mark.parametrize("args", [["chat"], ["say"], ["say", "-"]], ids=named)
def test_a_closed_standard_input_is_an_empty_one(args):
    done = shell("<&-", *args)
    assert done.returncode == 2
    assert "empty" in "".join(complaints(done))


def test_a_reader_that_is_gone_is_141():
    done = subprocess.run(
        ["bash", "-c", '"$0" "$@" | true; exit ${PIPESTATUS[0]}', *COMMAND, "settings"],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (141, "")


def test_a_conversation_at_a_terminal_with_a_full_disk_behind_its_output():
    with Terminal("chat", "--text", "--local", "--no-record", redirect=">/dev/full") as terminal:
        terminal.wait_for("type a line to talk")
        terminal.type("hello\n")
        assert terminal.wait_end() == 2
        assert "standard output cannot be written: No space left on device" in terminal.text


def test_what_takes_the_number_of_a_closed_stream_gets_nothing_of_ours():
    """Else a log or a socket that is opened next has number 2, and what libraries print goes into it."""
    done = shell("2>&-", "say", "Hello.", "--local", "--no-record", "--log-file", "log", "--log-level", "info")
    assert done.returncode == 0
    assert "talking to" not in Path("log").read_text()


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "args",
    [
        ["say", "Hello.", "--local", "--no-record", "--out", f"{LONG}.wav"],
        ["say", "Hello.", "--local", "--no-record", "--out", f"{LONG}/a.flac"],
        ["say", "--local", "--no-record", "--audio", LONG],
        ["say", "Hello.", "--local", "--no-record", "--log-file", LONG],
        ["say", "Hello.", "--local", "--record-dir", LONG],
        ["say", "Hello.", "--url", "wss://127.0.0.1:9", "--no-record", "--ca-file", LONG],
        ["check", LONG],
        ["run", LONG, "--local"],
        ["run", "scenario.yaml", "--local", "--no-record", "--out", LONG],
        ["run", "scenario.yaml", "--local", "--no-record", "--out", "other", "--junit", LONG],
        ["run", "scenario.yaml", "--local", "--record-dir", LONG],
        ["compare", LONG, LONG],
        ["report", LONG],
        ["report", "session", "--out", LONG],
        ["recover", LONG],
    ],
    ids=lambda args: named(args).replace(LONG, "LONG"),
)
def test_a_name_that_is_too_long_is_2_and_said(args):
    done = shell("", *args)
    assert done.returncode == 2
    assert "File name too long" in done.stdout + done.stderr
    assert len(complaints(done)) == (0 if args[0] == "check" else 1)


def test_the_reason_stands_behind_the_longest_name():
    done = shell("", "say", "Hello.", "--local", "--record-dir", "a/" * 2500)
    (line,) = complaints(done)
    assert "File name too long" in line
    assert len(line) < 1_000


@pytest.mark.parametrize(
    ("value", "says"),
    [(LONG, "File name too long"), ("nowhere.toml", "No such file"), (".", "Is a directory"), ("~nobody-here/x", "~")],
)
def test_a_named_config_file_that_cannot_be_read_is_2(value, says):
    done = shell("", "settings", REALTIME_CONFIG=value)
    assert done.returncode == 2
    (line,) = complaints(done)
    assert "REALTIME_CONFIG" in line
    assert says in line


def test_a_home_folder_that_nobody_knows_is_told():
    with pytest.raises(UsageError, match="--record-dir: the value '~nobody-here/x' begins with ~"):
        load_settings({"record_dir": "~nobody-here/x"})


# --- no home ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("home", "args", "code"),
    [
        ("/dev/null", ["settings"], 0),
        ("/proc/home", ["say", "Hello.", "--local", "--no-record"], 0),
        ("/proc/home", ["say", "Hello.", "--local"], 2),
        ("/dev/null", ["run", "scenario.yaml", "--local"], 2),
        (f"/{LONG}", ["settings"], 2),  # not even looked into
        ("", ["settings"], 0),
        ("relative", ["settings"], 0),
    ],
)
def test_any_home(here, home, args, code):
    (here / "recordings").unlink()
    done = shell("", *args, HOME=home, **{f"XDG_{name}_HOME": "" for name in ("CONFIG", "DATA", "CACHE", "STATE")})
    assert done.returncode == code, done.stderr
    assert len(complaints(done)) == (1 if code else 0)


def test_no_home_at_all(monkeypatch, capsys):
    """A user whom the system does not know, as in many containers."""
    monkeypatch.delenv("HOME")
    for name in ("CONFIG", "DATA"):
        monkeypatch.delenv(f"XDG_{name}_HOME")

    def unknown(_uid: int) -> object:
        raise KeyError("no such user")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert not config_path().exists()
    assert load_settings().model
    with pytest.raises(UsageError, match="no home folder to record into: set HOME"):
        recordings_folder(Settings())
    assert main(["say", "Hello.", "--local"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["settings", "--no-record"]) == 0


def test_a_current_folder_that_is_gone(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    script = 'cd "$1" && rmdir "$1" && shift && exec "$@"'
    for args, code in (
        (["settings"], 0),
        (["settings", "--record-dir", "x"], 2),
        (["say", "hi", "--log-file", "x"], 2),
    ):
        gone.mkdir(exist_ok=True)
        done = subprocess.run(
            ["sh", "-c", script, "sh", str(gone), *COMMAND, *args],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        assert code == 0 or "the current folder was removed" in done.stderr


# --- text that is not UTF-8 -------------------------------------------------------------------------------------------


def as_bytes(*args: bytes, **environ: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*(part.encode() for part in COMMAND), *args],
        capture_output=True,
        timeout=LIMIT_S,
        env={name.encode(): value.encode() for name, value in os.environ.items()}
        | {name.encode(): value for name, value in environ.items()},
        check=False,
    )


@pytest.mark.parametrize(
    "args",
    [
        [b"say", b"caf\xe9", b"--local", b"--no-record"],
        [b"say", b"hi", b"--local", b"--record-dir", b"caf\xe9"],
        [b"caf\xe9"],
        [b"say", b"--caf\xe9"],
    ],
)
def test_an_argument_that_is_not_text_is_2(args):
    done = as_bytes(*args)
    assert done.returncode == 2
    assert b"caf\\xe9 is not text in UTF-8" in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    "name",
    [
        "REALTIME_INSTRUCTIONS",
        "REALTIME_MODEL",
        "REALTIME_RECORD_DIR",
        "REALTIME_CONFIG",
        "OPENAI_API_KEY",
        "REALTIME_MIC",
    ],
)
def test_a_variable_that_is_not_text_is_2(name):
    done = as_bytes(b"say", b"hi", b"--no-record", **{name: b"caf\xe9"})
    assert done.returncode == 2
    assert name.encode() in done.stderr
    assert b"is not text in UTF-8" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_folder_whose_name_is_not_text_can_be_the_current_one(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    (folder / "recordings").mkdir(parents=True)
    done = subprocess.run(
        [*COMMAND, "say", "Hello.", "--local", "--json"], capture_output=True, timeout=LIMIT_S, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "completed"


@pytest.mark.parametrize(("text", "shown"), [("caf\udce9", r"caf\xe9"), ("\ud83d", r"\ud83d"), ("ok", None)])
def test_half_characters_are_named_by_their_bytes(text, shown):
    assert streams.not_text(["say", text]) == shown
