"""`realtime run` as users start it: output, exit codes, Ctrl-C, kill and resume, terminal, metrics."""

from __future__ import annotations

import collections
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import LIMIT_S, Terminal, http_answer, realtime, started
from run_players import make_cases, result_of, wait_until

from realtime_client.batch.result import CaseResult, Fault
from realtime_client.batch.results.results import read_results, read_run
from realtime_client.batch.running.folder import RunFolder
from realtime_client.batch.running.run import run_info
from realtime_client.cli.run_command import exit_code

GOOD = """
name: sum
tags: [quick]
session: {modality: text}
turns:
  - text: What is two plus three?
    expect: {contains: "5"}
"""
BAD = """
name: elephant
session: {modality: text}
turns:
  - text: What is two plus three?
    expect: {contains: "[bold]a\\e[31mb[/bold]"}
"""
SLOW = """
name: slow
session: {modality: text}
turns:
  - text: What is two plus three?
  - pause: 700 ms
"""


def results_in(folder: Path) -> list[CaseResult]:
    return read_results(folder / "results.jsonl")[0]


@pytest.fixture
def scenarios(tmp_path: Path) -> Path:
    folder = tmp_path / "scenarios"
    folder.mkdir()
    for name, text in (("good", GOOD), ("bad", BAD), ("slow", SLOW)):
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_a_run_that_passes(tmp_path: Path, scenarios: Path):
    out, junit = tmp_path / "run", tmp_path / "report" / "junit.xml"
    done = realtime(
        "run",
        str(scenarios),
        "--local",
        "--tag",
        "quick",
        "--repeat",
        "4",
        "--fast",
        "--out",
        str(out),
        "--junit",
        str(junit),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4 of 4 cases passed in ")
    assert "first text" in done.stdout
    assert f"results: {out}" in done.stdout
    assert f"4 cases against the built-in local server; run: {out}" in done.stderr
    for result in results_in(out):
        assert (out / result.recording / "session.json").is_file()
        assert result.worker.startswith("process ")
    assert ET.parse(junit).getroot().attrib["tests"] == "4"
    info = read_run(out / "run.json")
    assert info is not None
    assert info.abandoned == []
    assert "token" not in (out / "run.json").read_text()


@pytest.mark.parametrize("flags", [["--filter", ""], ["--tag", " "], ["--repeat", "0"], ["--jobs", "0"]])
def test_a_run_of_nothing_is_a_mistake(tmp_path: Path, scenarios: Path, flags: list[str]):
    done = realtime("run", str(scenarios / "good.yaml"), "--local", "--out", str(tmp_path / "run"), *flags)
    assert done.returncode == 2
    assert flags[0] in done.stderr
    assert not (tmp_path / "run").exists()


def test_each_process_has_a_server_of_its_own(tmp_path: Path, scenarios: Path):
    out = tmp_path / "run"
    command = ["run", str(scenarios / "good.yaml"), "--local", "--fast", "--jobs", "24", "--repeat", "48"]
    done = realtime(*command, "--processes", "2", "--out", str(out), "--json")
    assert json.loads(done.stdout)["all"]["passed"] == 48, done.stderr
    tokens = {"OPENAI_API_KEY", "token"}
    assert not tokens & set(json.loads((out / "run.json").read_text())["options"])
    assert len({result.worker for result in results_in(out)}) == 2
    if sys.platform.startswith("linux"):
        assert set(json.loads(done.stdout)["all"]["own_waiting"]) == {"first_text", "answer"}


def test_a_junit_file_that_cannot_be_written_is_told_before_anything_runs(tmp_path: Path, scenarios: Path):
    (tmp_path / "file").write_text("")
    junit, out = tmp_path / "file" / "junit.xml", tmp_path / "run"
    done = realtime("run", str(scenarios / "good.yaml"), "--local", "--out", str(out), "--junit", str(junit))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"realtime: --junit {junit}: ")
    assert line.endswith("; nothing was run")
    assert not out.exists()


def test_a_check_that_fails_is_told_and_is_exit_code_1(tmp_path: Path, scenarios: Path):
    arguments = (
        "run",
        str(scenarios / "good.yaml"),
        str(scenarios / "bad.yaml"),
        "--local",
        "--fast",
        "--no-record",
        "--json",
    )
    done = realtime(*arguments, "--out", str(tmp_path / "run"))
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert (report["all"]["passed"], report["all"]["failed"], report["exit_code"]) == (1, 1, 1)
    assert report["not_passed"][0]["case"] == "elephant"
    assert 'does not contain "[bold]a' in report["not_passed"][0]["messages"][0]
    assert 'failed  elephant: turn 1, contains: the answer does not contain "[bold]a' in done.stderr
    assert "\x1b" not in done.stderr
    assert not any((tmp_path / "run" / "sessions").iterdir())


def test_every_mistake_is_told_before_anything_runs(tmp_path: Path):
    file = tmp_path / "wrong.yaml"
    file.write_text("name: a\nturns:\n  - txt: hello\n  - text: hi\n    expect: {containz: x}\n")
    done = realtime("run", str(file), "--local", "--out", str(tmp_path / "run"))
    assert done.returncode == 2
    assert f"{file}:3:" in done.stderr
    assert f"{file}:5:" in done.stderr
    assert "nothing was run" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume"], "--resume needs --out"),
        (["--tag", "none"], "no scenario has such a tag"),
        (["--executor", "dask:8786"], "dask://HOST:PORT"),
        (["--url", "ws://127.0.0.1:0/x"], "not a URL"),
    ],
)
def test_wrong_flags(scenarios: Path, arguments: list[str], message: str):
    done = realtime("run", str(scenarios / "good.yaml"), *arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr


def test_nobody_there_is_never_passed(tmp_path: Path, scenarios: Path):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{reserved.getsockname()[1]}"
        done = realtime(
            "run",
            str(scenarios / "good.yaml"),
            "--url",
            url,
            "--repeat",
            "3",
            "--retries",
            "1",
            "--out",
            str(tmp_path / "run"),
        )
    assert done.returncode == 3, done.stderr
    assert "0 of 3 cases passed, 3 without a verdict" in done.stdout
    assert {(r.status, r.attempts) for r in results_in(tmp_path / "run")} == {("error", 2)}


@pytest.mark.parametrize(
    ("asked", "retries", "says"), [("nan", "0", ""), ("99999", "2", "given up: the server asks to wait 99999 s")]
)
def test_too_many_requests_end_the_run(tmp_path: Path, scenarios: Path, asked: str, retries: str, says: str):
    arguments = ["--out", str(tmp_path / "run"), "--retries", retries, "--repeat", "2", "--jobs", "1"]
    with http_answer(429, Retry_After=asked) as url:
        done = realtime("run", str(scenarios / "good.yaml"), "--url", url, *arguments)
    assert done.returncode == 3, done.stderr
    assert {r.attempts for r in results_in(tmp_path / "run")} == {1}
    assert says in done.stderr


def test_what_was_not_played_is_no_success(tmp_path: Path):
    cases = make_cases(2)
    folder = RunFolder.create(tmp_path / "run", run_info("run", cases))
    folder.add(result_of(cases[0]))
    summary = folder.finish("interrupted")
    folder.close()
    assert exit_code(summary, tmp_path / "run") == 3


@pytest.mark.parametrize(
    ("faults", "code"),
    [
        ([None], 0),
        ([Fault(kind="AuthenticationError", message="no")], 3),
        ([Fault(kind="ConnectionLostError", message="lost", connected=True)], 4),
        ([Fault(kind="ConnectionLostError", message="lost", connected=True), Fault(kind="TLSError", message="no")], 3),
        (["failed", Fault(kind="TLSError", message="no")], 1),
    ],
)
def test_exit_codes(tmp_path: Path, faults: list[Any], code: int):
    cases = make_cases(len(faults))
    folder = RunFolder.create(tmp_path / "run", run_info("run", cases))
    for case, fault in zip(cases, faults, strict=True):
        status = "failed" if fault == "failed" else "error" if fault else "passed"
        folder.add(result_of(case, status, fault if isinstance(fault, Fault) else None))
    summary = folder.finish("ended")
    folder.close()
    assert exit_code(summary, tmp_path / "run") == code


def begun(out: Path) -> int:
    return len(list((out / "sessions").glob("*")))


def test_one_ctrl_c_finishes_what_runs_and_resume_does_the_rest(tmp_path: Path, scenarios: Path):
    out = tmp_path / "run"
    arguments = ["run", str(scenarios / "slow.yaml"), "--local", "--repeat", "5", "--jobs", "2", "--out", str(out)]
    with started(*arguments) as process:
        wait_until(lambda: begun(out) >= 2)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, stderr
    assert "what runs finishes" in stderr
    first = results_in(out)
    assert 2 <= len(first) < 5
    assert {r.status for r in first} == {"passed"}
    assert "not run (--resume goes on)" in stdout
    info = read_run(out / "run.json")
    assert info is not None
    assert info.state == "interrupted"
    skipped = ET.parse(out / "junit.xml").getroot().findall(".//testcase[skipped]")
    assert len(skipped) == 5 - len(first)
    again = realtime(*arguments, "--resume")
    assert again.returncode == 0, again.stderr
    assert f"{len(first)} of them are done" in again.stderr
    assert collections.Counter(r.case for r in results_in(out)).most_common(1)[0][1] == 1
    assert len(results_in(out)) == 5


def in_flight(out: Path) -> int:
    """How many sessions have said something and have no result."""
    known = {result.recording for result in results_in(out)}
    journals = [journal for journal in (out / "sessions").glob("*/journal.jsonl") if journal.stat().st_size]
    return sum(f"sessions/{journal.parent.name}" not in known for journal in journals)


def test_two_ctrl_c_end_what_runs(tmp_path: Path, scenarios: Path):
    (scenarios / "long.yaml").write_text(SLOW.replace("700 ms", "10 min"))
    out = tmp_path / "run"
    with started(
        "run", str(scenarios / "long.yaml"), "--local", "--repeat", "3", "--jobs", "2", "--out", str(out)
    ) as process:
        wait_until(lambda: begun(out) >= 2)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert any("what runs finishes" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    assert results_in(out) == []
    info = read_run(out / "run.json")
    assert info is not None
    assert (info.state, len(info.abandoned)) == ("interrupted", 2)


ENDLESS = """
name: endless
session: {modality: text}
turns:
  - text: "Repeat after me: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"
    expect:
      matches: (a+)+$
"""


def test_a_pattern_without_end_is_an_error_that_says_where(tmp_path: Path, scenarios: Path):
    file = scenarios / "endless.yaml"
    file.write_text(ENDLESS)
    done = realtime("run", str(file), str(scenarios / "good.yaml"), "--local", "--out", str(tmp_path / "run"))
    assert done.returncode == 4, done.stderr
    assert "1 of 2 cases passed, 1 without a verdict" in done.stdout
    assert "error   endless: CheckError: turn 1, matches: searching for '(a+)+$' takes longer than 5 s" in done.stderr
    assert f"({file}:7:7)" in done.stderr


def stopped_workers(out: Path) -> list[int]:
    """Stop the workers of a run, as a computation would that lets nobody through; returns their processes."""
    pids = {json.loads(path.read_text())["pid"] for path in (out / "sessions").glob("*/session.json")}
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    return sorted(pids)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ([signal.SIGTERM], 143),
        ([signal.SIGINT, signal.SIGINT, signal.SIGINT], 130),
        ([signal.SIGTERM, signal.SIGTERM], 143),
    ],
)
def test_a_run_ends_whatever_its_workers_do(tmp_path: Path, scenarios: Path, sent: list[signal.Signals], code: int):
    (scenarios / "long.yaml").write_text(SLOW.replace("700 ms", "10 min"))
    out = tmp_path / "run"
    arguments = ["--local", "--repeat", "3", "--jobs", "2", "--processes", "2", "--out", str(out)]
    with started("run", str(scenarios / "long.yaml"), *arguments) as process:
        wait_until(lambda: in_flight(out) >= 2)
        workers = stopped_workers(out)
        assert process.stderr is not None
        for number, which in enumerate(sent):
            process.send_signal(which)
            words = ("what runs finishes", "sessions are ended", "sessions are killed")[
                number + (sent[0] == signal.SIGTERM)
            ]
            assert any(words in line for line in process.stderr), "each signal is answered"
        stdout, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == code
    assert "3 not run (--resume goes on)" in stdout
    info = read_run(out / "run.json")
    assert info is not None
    assert (info.state, len(info.abandoned)) == ("interrupted", 2)
    for name in info.abandoned:
        assert json.loads((out / name / "session.json").read_text())["state"] == "killed"
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_killed_and_resumed_with_real_sessions(tmp_path: Path, scenarios: Path):
    out = tmp_path / "run"
    (scenarios / "slow.yaml").write_text(SLOW.replace("700 ms", "2 s"))
    arguments = ["run", str(scenarios / "slow.yaml"), "--local", "--repeat", "4", "--jobs", "3", "--out", str(out)]
    with started(*arguments, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: len(results_in(out)) >= 1 and in_flight(out) >= 1)
        process.kill()
        process.communicate(timeout=LIMIT_S)
    again = realtime(*arguments, "--resume")
    assert again.returncode == 0, again.stderr
    results = results_in(out)
    assert sorted(r.case for r in results) == ["slow", *(f"slow#{n}" for n in range(1, 4))]
    info = read_run(out / "run.json")
    assert info is not None
    assert info.abandoned, "what was in flight at the kill is named"
    for name in info.abandoned:
        assert json.loads((out / name / "session.json").read_text())["state"] in ("killed", "ended")
    other = realtime("run", str(scenarios / "good.yaml"), "--local", "--out", str(out), "--resume")
    assert other.returncode == 2
    assert "other scenarios" in other.stderr


def test_in_a_terminal(tmp_path: Path, scenarios: Path):
    with Terminal(
        "run", str(scenarios), "--local", "--repeat", "2", "--jobs", "2", "--out", str(tmp_path / "run"), columns=110
    ) as terminal:
        terminal.wait_for("running ")
        screen = terminal.wait_for("results: ")
        assert terminal.wait_end() == 1
    assert 'failed  elephant: turn 1, contains: the answer does not contain "[bold]a' in screen
    assert "4 of 6 cases passed, 2 failed" in screen


def test_metrics_while_it_runs(tmp_path: Path, scenarios: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = tmp_path / "run"
    arguments = ["--local", "--repeat", "3", "--jobs", "1", "--out", str(out), "--metrics-port", str(port)]
    with started("run", str(scenarios / "slow.yaml"), *arguments) as process:
        text = ""
        pause = threading.Event()
        for _ in range(2000):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=LIMIT_S) as answer:
                    text = answer.read().decode()
            except (urllib.error.URLError, OSError):
                text = ""
            if 'realtime_cases_total{status="passed"} 1' in text:
                break
            pause.wait(0.01)
        _, stderr = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, stderr
    assert "realtime_run_cases 3" in text
    assert 'realtime_latency_seconds_count{latency="first_text"} 1' in text
    assert 'realtime_bytes_total{direction="in"}' in text


LIKE_WINDOWS = """
import multiprocessing.popen_spawn_posix, os, signal, subprocess, sys, types  # what is system-dependent in Python itself
held = set()
def locking(file, mode, count):
    place = (os.fstat(file).st_ino, os.fstat(file).st_dev)
    if place in held:
        raise OSError(36, "Resource deadlock avoided")
    held.add(place)
sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
for missing in ("fcntl", "termios", "resource", "pwd", "grp"):
    sys.modules[missing] = None
for missing in ("pread", "pwrite", "fork", "getuid", "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW"):
    delattr(os, missing)
for missing in ("SIGHUP", "pthread_sigmask", "sigwait", "pthread_kill", "sigpending"):
    delattr(signal, missing)
from realtime_client.lock import hold
from realtime_client.cli import main
if __name__ == "__main__":  # worker processes begin here, too
    print("taken once:", hold("a.lock") is not None, hold("a.lock") is not None)
    sys.exit(main(["run", *sys.argv[1:]]))
"""


def test_a_run_needs_nothing_that_windows_does_not_have(scenarios: Path, tmp_path: Path):
    program, folder = tmp_path / "like_windows.py", tmp_path / "run"
    program.write_text(LIKE_WINDOWS)
    command = [sys.executable, str(program), str(scenarios / "good.yaml"), "--local", "--fast", "--out", str(folder)]

    def run(*flags: str) -> str:
        options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": LIMIT_S, "cwd": tmp_path}
        done = subprocess.run([*command, *flags], check=False, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "taken once: True False" in run(), "by the means of that system"
    assert [result.status for result in results_in(folder)] == ["passed"]
    with (folder / "results.jsonl").open("ab") as file:
        file.write(b'{"case": "torn')
    run("--resume")
    assert (folder / "results.jsonl").read_bytes().endswith(b"}\n")
