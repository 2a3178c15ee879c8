"""`realtime check`: every mistake on standard output, exit code 2."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import LIMIT_S, realtime

GOOD = "name: a\nparameters: [{x: 1}, {x: 2}]\nturns: [{text: 'say ${x}'}]\n"
BAD = "name: b\nturns: [{text: hi, speak: ho}]\ntimeout: 5\n"


@pytest.fixture
def suite() -> Path:
    Path("suite").mkdir()
    Path("suite/good.yaml").write_text(GOOD, encoding="utf-8")
    return Path("suite")


def test_all_is_well(suite):
    done = realtime("check", "suite")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 scenario without mistakes, 2 cases\n", "")


def test_every_mistake_has_a_line(suite):
    (suite / "bad.yaml").write_text(BAD, encoding="utf-8")
    done = realtime("check", "suite")
    assert done.returncode == 2
    assert done.stdout.splitlines() == [
        "suite/bad.yaml:2:9: a turn has one of text, speak, audio, dtmf, silence, pause; this one has text and speak",
        "suite/bad.yaml:3:10: `timeout` must be a length of time, such as 300 ms, 1.5 s or 2 min, not 5; "  # noqa: ISC004
        "write the unit too, as 5 ms or 5 s",
        "2 mistakes; 1 scenario without mistakes, 2 cases",
    ]


def test_json(suite):
    (suite / "bad.yaml").write_text(BAD, encoding="utf-8")
    done = realtime("check", "--json", "suite/bad.yaml", "suite/good.yaml", "nowhere.yaml")
    assert done.returncode == 2
    report = json.loads(done.stdout)
    assert (report["scenarios"], report["cases"], len(report["problems"])) == (1, 2, 3)
    assert report["problems"][1] == {
        "file": "suite/bad.yaml",
        "line": 3,
        "column": 10,
        "message": "`timeout` must be a length of time, such as 300 ms, 1.5 s or 2 min, not 5",
        "hint": "write the unit too, as 5 ms or 5 s",
    }
    assert report["problems"][2]["file"] == "nowhere.yaml"
    assert json.loads(realtime("check", "--json", "suite/good.yaml").stdout) == {
        "scenarios": 1,
        "cases": 2,
        "problems": [],
        "notes": [],
    }


def test_an_odd_audio_file_is_told_and_no_mistake(suite):
    import numpy as np
    import soundfile

    tone = 0.3 * np.sin(np.arange(24_000) / 9)
    soundfile.write(suite / "wide.wav", np.stack([tone, -0.9 * tone], axis=1), 24_000)
    (suite / "good.yaml").write_text("name: a\nparameters: [{x: 1}, {x: 2}]\nturns: [{audio: wide.wav}]\n")
    done = realtime("check", "suite")
    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        [
            "suite/good.yaml:3:17: the channels of suite/wide.wav cancel each other out (opposite phase): "  # noqa: ISC004
            "channel 1 alone is taken (no mistake, but look at it)",
            "1 scenario without mistakes, 2 cases",
        ],
    )
    (note,) = json.loads(realtime("check", "--json", "suite").stdout)["notes"]
    assert (note["line"], note["column"]) == (3, 17)


def test_hostile_text_does_not_reach_the_terminal(suite):
    (suite / "bad.yaml").write_text('name: x\n"\\x1b[2J\\u202e": 1\nturns: [{text: a}]\n', encoding="utf-8")
    done = realtime("check", "suite/bad.yaml")
    assert "there is no key" in done.stdout
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout


def test_the_schema(project):
    done = realtime("check", "--schema")
    assert done.stdout == (project / "realtime_client/batch/loading/scenario.schema.json").read_text(encoding="utf-8")


def test_without_a_path():
    done = realtime("check")
    assert done.returncode == 2
    assert "name at least one file or directory" in done.stderr


def test_nothing_heavy_is_imported(suite):
    program = (
        "import sys; from realtime_client.cli import main; assert main(['check', 'suite']) == 0;"
        "heavy = {'websockets', 'numpy', 'soundfile', 'asyncio', 'prompt_toolkit', 'rich'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
