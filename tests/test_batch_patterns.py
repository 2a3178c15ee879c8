"""Regular expressions that would never end are ended, whoever asks and whatever the process computes."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from run_players import wait_until

from realtime_client.batch.faults import CheckError, fault_of
from realtime_client.batch.judging import patterns
from realtime_client.batch.judging.checks import check
from realtime_client.batch.judging.evidence import Evidence, Means
from realtime_client.batch.scenario import Expect

ENDLESS, LETTERS = "(a+)+$", "a" * 60 + "!"


@pytest.fixture(autouse=True)
def _closed():
    yield
    patterns.close_all()
    assert not patterns._idle


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (r"^The \w+ in", "The weather in Paris", True),
        (r"\d", "none", False),
        ("dé.+ü", "voilà dé\nü déjà ü", True),
        ("\ud83d", "half \ud83d of it", True),
        ("a" * 1000 + "$", "a" * 500_000, True),
        ("", "anything", True),
    ],
)
def test_searching_is_as_re_does_it(pattern, text, found):
    assert patterns.search(pattern, text) is found


def test_a_pattern_without_end_is_ended():
    with pytest.raises(CheckError, match=r"searching for '\(a\+\)\+\$' takes longer than 0\.2 s"):
        patterns.search(ENDLESS, LETTERS, 0.2)
    assert patterns.search("a+!", LETTERS)


def test_many_at_a_time_wait_for_none_that_does_not_end():
    def one(n: int) -> bool | str:
        try:
            return patterns.search(ENDLESS if n % 5 == 0 else "a", LETTERS, 1.0)
        except CheckError:
            return "ended"

    with ThreadPoolExecutor(8) as executor:
        found = list(executor.map(one, range(20)))
    assert found == ["ended" if n % 5 == 0 else True for n in range(20)]
    assert len(patterns._idle) <= patterns._KEPT
    assert [t.name for t in threading.enumerate() if "pattern" in t.name] == []


def test_a_process_that_was_killed_while_it_waited_is_replaced():
    assert patterns.search("a", "a")
    (searcher,) = patterns._idle
    os.kill(searcher._process.pid, signal.SIGKILL)
    assert patterns.search("a", "a")
    (other,) = patterns._idle
    assert other is not searcher


def test_one_that_lost_its_parent_ends_by_itself(tmp_path: Path):
    """The alarm is its own: a killed worker leaves nothing behind that computes for ever."""
    process = subprocess.Popen(
        [patterns.sys.executable, "-I", "-S", "-c", patterns._CODE], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode([ENDLESS, LETTERS, 0.2]) + b"\n")
    process.stdin.close()
    wait_until(lambda: process.poll() is not None)
    assert process.returncode == -signal.SIGALRM


def test_the_error_names_the_check_its_place_and_the_limit():
    means = Means(place=lambda path: f"s.yaml:3:5 {path}", search=lambda p, t: patterns.search(p, t, 0.1))
    with pytest.raises(CheckError) as caught:
        check(Expect(contains="a", matches=["a", ENDLESS]), Evidence(turn=2, answer=LETTERS, answered=True), means)
    fault = fault_of(caught.value, connected=True)
    assert (fault.kind, fault.infrastructure) == ("CheckError", False)
    assert fault.message.startswith("turn 2, matches: searching for '(a+)+$' takes longer than 0.1 s;")
    assert fault.message.endswith("(s.yaml:3:5 turns.1.expect.matches)")
