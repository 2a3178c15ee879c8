"""The README's examples run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
EXPECTED = [
    r"one.*five[.\n]*.*[1-9]\.\d s of speech",
    r"is 5.*completed, \d+ tokens",
    r"[1-9]\d{3,} bytes of audio",
    r"get_weather .*city.*21",
    r"8 of 8 passed",
]


def test_every_example_is_expected() -> None:
    assert len(EXAMPLES) == len(EXPECTED)


@pytest.mark.parametrize(("example", "expected"), list(zip(EXAMPLES, EXPECTED, strict=True)))
def test_example(example: str, expected: str, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", example],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    assert re.search(expected, run.stdout, re.DOTALL | re.IGNORECASE), run.stdout
    assert not run.stderr


def test_the_scenario_is_right_and_passes(tmp_path: Path) -> None:
    (scenario,) = re.findall(r"^```yaml\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    (tmp_path / "scenario.yaml").write_text(scenario, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "realtime_client", "run", "--local", "--out", "run", "scenario.yaml"],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=80,
    )
    assert run.returncode == 0, run.stderr + run.stdout
    assert "1 of 1 cases passed" in run.stdout
