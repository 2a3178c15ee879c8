"""The guards that every test stands behind do their work: each is shown a test that it must fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def run_tests(folder: Path, text: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `text` as a test module with our conftest."""
    (folder / "conftest.py").write_text((HERE / "conftest.py").read_text())
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_it.py").write_text(text)
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | environ
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        cwd=folder,
        check=False,
    )


LEAKS_A_THREAD = """
import threading
gate = threading.Event()
def test_it():
    threading.Thread(target=gate.wait, args=(20,), name="left-behind", daemon=True).start()
"""
LEAVES_THE_MACHINE = """
import socket
def test_it():
    socket.create_connection(("192.0.2.1", 9), timeout=0.1)
"""
READS_THE_KEY = """
import os
def test_it():
    assert "OPENAI_API_KEY" in os.environ
"""


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (LEAKS_A_THREAD, "threads still alive after the test: left-behind"),
        (LEAVES_THE_MACHINE, "a test tried to reach"),
        (READS_THE_KEY, "in environ"),
    ],
)
def test_what_must_not_happen_fails(tmp_path, body, says):
    done = run_tests(tmp_path, body, OPENAI_API_KEY="sk-real")
    assert done.returncode == 1
    assert says in done.stdout


@pytest.mark.parametrize(
    "body",
    [
        "import pytest\ndef test_it():\n    pytest.skip('no sound card')",
        "import pytest\npytest.skip('no sound card', allow_module_level=True)",
        "import pytest\n@pytest.mark.skipif(True, reason='no sound card')\ndef test_it(): pass",
    ],
)
def test_a_skip_is_a_failure_in_ci_only(tmp_path, body):
    assert run_tests(tmp_path, body).returncode in (0, 5)
    done = run_tests(tmp_path, body, CI="true")
    assert done.returncode in (1, 2)
    assert "nothing may skip in CI" in done.stdout
    assert "no sound card" in done.stdout
