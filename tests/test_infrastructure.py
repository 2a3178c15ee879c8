"""The guards that every test stands behind do their work: they are shown tests that they must fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
QUICK = "not (peer or sound or browser or slow)"

MUST_FAIL = """
import os, socket, threading

gate = threading.Event()

def test_leaves_a_thread():
    threading.Thread(target=gate.wait, args=(20,), name="left-behind", daemon=True).start()

def test_leaves_the_machine():
    socket.create_connection(("192.0.2.1", 9), timeout=0.1)

def test_reads_the_users_key():
    assert "OPENAI_API_KEY" in os.environ

def test_hangs():
    gate.wait(20)
"""
SKIPS = """
import pytest

def test_by_call():
    pytest.skip("no sound card")

@pytest.mark.skipif(True, reason="no microphone")
def test_by_mark(): pass

@pytest.mark.xfail(reason="known", strict=True)
def test_expected():
    assert False
"""
MARKED = """
import subprocess
import pytest
from helper import Helper, calls, is_harmless

class Browser: pass

@pytest.fixture
def deep():
    yield subprocess.run

@pytest.fixture
def deeper(deep):
    return deep

@pytest.fixture
def sound_card(): pass

def through_a_lambda():
    return lambda: subprocess.PIPE

def test_itself(): subprocess.run
def test_through_a_fixture(deeper): pass
def test_through_a_function(): through_a_lambda()
def test_through_another_file(): calls()
def test_through_a_class(): Helper()
def test_imported_inside():
    from realtime_client.local import LocalServer
def test_with_sound(sound_card): pass
def test_with_a_browser(): Browser()
@pytest.mark.slow
def test_for_long(): pass
def test_alone(): is_harmless()
"""
HELPER = """
import socket

class Helper:
    def method(self):
        return socket.socket()

def calls():
    return Helper
def is_harmless():
    return is_harmless
"""
SKIPS_WHOLE = "import pytest\npytest.skip('no loudspeaker', allow_module_level=True)"


def run_tests(
    folder: Path, *modules: str, options: tuple[str, ...] = (), **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run test modules behind our conftest, with shorter limits."""
    conftest = (HERE / "conftest.py").read_text()
    conftest = conftest.replace("LIMIT_S = 90", "LIMIT_S = 1").replace("LIMIT_S = 5.0", "LIMIT_S = 0.3")
    (folder / "conftest.py").write_text(conftest)
    marks = ("browser", "peer", "slow", "sound")
    (folder / "pytest.ini").write_text("\n  ".join(["[pytest]\nmarkers =", *marks]))
    for number, text in enumerate(modules):
        (folder / f"test_{number}.py").write_text(text)
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | environ
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "--continue-on-collection-errors", *options, str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        cwd=folder,
        check=False,
    )


def test_what_must_not_happen_fails(tmp_path):
    said = run_tests(tmp_path, MUST_FAIL, OPENAI_API_KEY="sk-real").stdout
    assert "threads still alive after the test: left-behind" in said
    assert "a test tried to reach" in said
    assert "the test runs longer than 1 s" in said
    assert "3 failed, 1 passed, 1 error" in said  # the thread is found after its test has passed


def test_a_skip_is_a_failure_in_ci_only(tmp_path):
    assert run_tests(tmp_path, SKIPS, SKIPS_WHOLE).returncode == 0
    done = run_tests(tmp_path, SKIPS, SKIPS_WHOLE, CI="true")
    assert done.returncode != 0
    for reason in ("no sound card", "no microphone", "no loudspeaker"):
        assert f"nothing may skip in CI: Skipped: {reason}" in done.stdout
    assert run_tests(tmp_path, SKIPS, "", CI="true").stdout.count("1 xfailed") == 1


def test_what_a_test_needs_is_found(tmp_path):
    """`scripts/test --quick` runs what needs nothing: no mark has to be written for that."""
    (tmp_path / "helper.py").write_text(HELPER)
    for mark, count in (("peer", 6), ("sound", 1), ("browser", 1), ("slow", 1)):
        assert (
            f"{count}/10 tests collected" in run_tests(tmp_path, MARKED, options=("--collect-only", "-m", mark)).stdout
        )
    assert QUICK in (HERE.parent / "scripts/test").read_text()
    said = run_tests(tmp_path, MARKED, options=("--collect-only", "-m", QUICK)).stdout
    assert "1/10 tests collected" in said
    assert "test_alone" in said
