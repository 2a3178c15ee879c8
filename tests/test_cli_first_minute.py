"""The first minute: a shell that completes, words that are mistyped, an environment whose Python is gone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import LIMIT_S, realtime

BIN = Path(sys.executable).parent
PROJECT = Path(__file__).resolve().parent.parent
MUTE = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


def bash(script: str, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "--norc", "-c", script, "bash", *args],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env=os.environ | MUTE | environ,
        check=False,
    )


# --- completion -------------------------------------------------------------------------------------------------------

COMPLETE = """
eval "$(_REALTIME_COMPLETE=bash_source realtime)"
complete -p realtime >/dev/null || exit 1
COMP_WORDS=(realtime "$@"); COMP_CWORD=$#
_realtime_completion realtime
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["ch"], {"chat", "check"}),
        (
            [""],
            {"chat", "say", "run", "serve", "doctor", "devices", "models", "settings", "check", "compare", "report"}
            | {"recover", "tools", "approvals"},
        ),
        (["--"], {"--help", "--version"}),
        (["say", "--mod"], {"--model", "--modality"}),
        (["say", "--modality", ""], {"audio", "text"}),
        (["say", "--turn-detection", "s"], {"server_vad", "semantic_vad"}),
        (["chat", "--voice-name", "s"], {"sage", "shimmer"}),
    ],
)
def test_bash_completes(words, offered):
    done = bash(COMPLETE, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert {line for line in done.stdout.splitlines() if line} == offered


def test_tags_of_the_named_scenarios_are_completed(tmp_path):
    for name, tags in (("one", "[quick, quiet]"), ("two", "[slow]")):
        (tmp_path / f"{name}.yaml").write_text(f"name: {name}\ntags: {tags}\nturns:\n  - text: Hi\n")
    words = f"realtime run {tmp_path} --tag qui"
    done = realtime(_REALTIME_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD="4")
    assert done.stdout.split() == ["plain,quick", "plain,quiet"]


@pytest.mark.parametrize("option", ["--record-dir", "--log-file"])
def test_bash_completes_names_of_files_and_folders(tmp_path, monkeypatch, option):
    """They are left to bash, which knows them."""
    monkeypatch.chdir(tmp_path)
    done = realtime(_REALTIME_COMPLETE="bash_complete", COMP_WORDS=f"realtime say {option} a", COMP_CWORD="3")
    assert done.stdout.strip() == "file,a"


@pytest.mark.parametrize(
    ("shell", "script", "reply"),
    [
        ("bash", "complete -o nosort -F _realtime_completion realtime", "plain,report"),
        ("zsh", "compdef _realtime_completion realtime", "plain\nreport\nMake one HTML file"),
        ("fish", "complete --no-files --command realtime", "plain,report\tMake one HTML file"),
    ],
)
def test_the_script_of_each_shell_and_what_it_asks(shell, script, reply):
    done = realtime(_REALTIME_COMPLETE=f"{shell}_source")
    assert (done.returncode, done.stderr) == (0, "")
    assert script in done.stdout
    asked = {"COMP_WORDS": "realtime rep", "COMP_CWORD": "rep" if shell == "fish" else "1"}
    answer = realtime(_REALTIME_COMPLETE=f"{shell}_complete", **asked)
    assert answer.returncode == 0
    assert reply in answer.stdout
    with_it = shutil.which(shell)
    if with_it:
        parsed = subprocess.run([with_it, "-n"], input=done.stdout, text=True, capture_output=True, check=False)
        assert (parsed.returncode, parsed.stderr) == (0, "")


def test_another_shell_is_told_which_there_are():
    done = realtime(_REALTIME_COMPLETE="tcsh_source")
    assert done.returncode == 2
    assert "bash_source, zsh_source or fish_source" in done.stderr


# --- mistyped ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["chatt"], "there is no command 'chatt'; did you mean chat?"),
        (["Chat"], "did you mean chat?"),
        (["rn"], "did you mean run?"),
        (["xyzzy"], "the commands are chat, say, run"),
        (["What can you do?"], "to say it: realtime say TEXT"),
        (["say", "--modle", "x"], "--model"),
        (["--model", "x", "say", "hi"], "options stand behind a command"),
    ],
)
def test_what_is_mistyped_gets_the_nearest(args, says):
    done = realtime(*args)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


# --- scripts/start ----------------------------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A project whose environment is made, and holds what is installed here."""
    root = tmp_path / "project"
    shutil.copytree(PROJECT / "scripts", root / "scripts")
    (root / "realtime_client").mkdir()
    for name in ("pyproject.toml", "realtime_client/version.py"):
        shutil.copy(PROJECT / name, root / name)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root / ".venv")], check=True)
    (site,) = (root / ".venv/lib").glob("python*/site-packages")
    paths = [str(PROJECT), *(path for path in sys.path if path.endswith("-packages"))]
    (site / "all.pth").write_text("\n".join(paths))
    command = root / ".venv/bin/realtime"
    command.write_text('#!/bin/sh\nexec "${0%/*}/python" -m realtime_client "$@"\n')
    command.chmod(0o755)
    done = bash('. "$1/scripts/environment"; pip_install() { :; }; make_environment "$1" local aec language', str(root))
    assert done.returncode == 0, done.stderr
    return root


def made(root: Path) -> list[str]:
    """What `make_environment` does; the steps themselves, which need a network, only say that they were called."""
    script = """
    . "$1/scripts/environment"
    make_venv() { echo environment; }; pip_install() { echo packages; }
    make_environment "$1" local aec language
    """
    done = bash(script, str(root))
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_an_environment_that_works_is_used_as_it_is(installed):
    assert made(installed) == []


def test_an_environment_whose_python_is_gone_is_made_anew(installed):
    for python in (installed / ".venv/bin").glob("python*"):
        python.unlink()
        python.symlink_to("/gone/python3")
    assert made(installed) == ["environment", "packages"]


def test_and_one_whose_python_was_replaced_by_another_version(installed):
    (library,) = (installed / ".venv/lib").glob("python*")
    library.rename(library.parent / "python3.0")
    assert made(installed) == ["environment", "packages"]


def test_and_one_whose_command_is_gone(installed):
    (installed / ".venv/bin/realtime").unlink()
    assert made(installed) == ["environment", "packages"]


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["--version"], 0, "realtime "),
        (["settings", "--json"], 0, '"endpoint"'),
        (["--no-record", "--local"], 0, "Hello"),
        ([], 0, "Hello"),
        (["chatt"], 2, "did you mean chat?"),
        (["settigns"], 2, "did you mean settings?"),
        (["--txt"], 2, "--text"),
    ],
)
def test_start_takes_options_of_chat_and_any_command(installed, args, code, says):
    done = subprocess.run(
        [installed / "scripts/start", *args],
        input="Hello.",
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert says in done.stdout + done.stderr


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_the_tests_tell_how_they_are_run(option):
    done = subprocess.run(
        [PROJECT / "scripts/test", option], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "--quick" in done.stdout
