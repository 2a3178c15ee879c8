"""What is shown: escaping, wrapping, logs without secrets."""

from __future__ import annotations

import json
import logging
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_client import logs
from realtime_client.cli.pending import Pending
from realtime_client.cli.wrapping import wrap
from realtime_client.errors import UsageError
from realtime_client.escape import one_line, printable


@given(st.text())
def test_nothing_printable_commands_a_terminal(text):
    shown = printable(text)
    shown.encode()
    assert not any((ord(c) < 32 and c != "\n") or 0x7F <= ord(c) < 0xA0 for c in shown)
    assert not set(shown) & set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")
    assert "\n" not in one_line(text)
    assert len(one_line(text)) <= 500


def test_what_is_harmless_stays():
    assert (
        printable("Gr\u00fc\u00dfe, \u4f60\u597d \N{WAVING HAND SIGN}\nnext")
        == "Gr\u00fc\u00dfe, \u4f60\u597d \N{WAVING HAND SIGN}\nnext"
    )
    assert printable("a\x1b]0;title\x07b\x1b[2Jc\x9b1md\re\tf\ud800") == "a]0;titleb[2Jc1mde    f\ufffd"


@given(st.text(alphabet="ab \n\u4f60", max_size=60), st.integers(2, 12))
def test_wrapping_loses_no_word_and_keeps_to_the_width(text, width):
    def cells(part: str) -> int:
        return sum(2 if c == "\u4f60" else 1 for c in part)

    rows, rest = wrap(text, width, cells)
    assert all(cells(row) <= width for row in [*rows, rest])
    assert "".join([*rows, rest]).replace(" ", "") == text.replace(" ", "").replace("\n", "")


def test_wrapping_breaks_at_word_ends():
    assert wrap("the quick brown fox", 10) == (["the quick"], "brown fox")
    assert wrap("one\ntwo\n", 10) == (["one", "two"], "")
    assert wrap("abcdefghijkl", 5) == (["abcde", "fghij"], "kl")


def test_wrapping_a_line_without_an_end_looks_at_each_character_a_few_times():
    looked_at = 0

    def cells(part: str) -> int:
        nonlocal looked_at
        looked_at += len(part)
        return len(part)

    for line in ("w" * 100_000, "word " * 20_000):
        looked_at = 0
        rows, _ = wrap(line, 80, cells)
        assert len(rows) == 1_249
        assert looked_at < 3 * len(line)


def test_pending_text_is_bounded_and_says_so():
    pending = Pending()
    for _ in range(30):
        pending.add("x" * 100_000)
    rows, _ = pending.take(80)
    assert rows[-1] == "[2000000 characters are not shown]"
    assert sum(map(len, rows)) < 1_100_000


def test_logs_hold_no_secret_and_no_audio(tmp_path):
    path = tmp_path / "log"
    with logs.configured("debug", file=path, as_json=True, secrets=("hunter22",)):
        logs.Log("test").info(
            "with hunter22",
            api_key="abc",
            headers={"Authorization": "Bearer xyz"},
            audio=b"\0" * 480,
            url="ws://h/?k=sk-abcdefgh1234",
            delta="QUJD" * 100,
            nested=[{"token": "t"}, ("ek_abcdefghijkl",)],
            rtt_ms=1.5,
            escape="\x1b[2J",
        )
    entry = json.loads(path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert entry["event"] == "with ***"
    assert entry["api_key"] == "***"
    assert entry["headers"] == {"Authorization": "***"}
    assert entry["audio"] == "<480 bytes>"
    assert entry["url"] == "ws://h/?k=***"
    assert entry["delta"] == "<400 characters>"
    assert entry["nested"] == [{"token": "***"}, ["***"]]
    assert entry["rtt_ms"] == 1.5
    assert entry["escape"] == "[2J"
    assert entry["level"] == "info"


def test_an_exception_in_the_log_is_scrubbed_too(tmp_path):
    path = tmp_path / "log"
    with logs.configured("error", file=path, as_json=True):
        try:
            raise ValueError("Bearer sk-verysecretvalue")
        except ValueError:
            logging.getLogger("realtime_client.test").exception("bad")
    assert "ValueError" in path.read_text()
    assert "verysecret" not in path.read_text()


def test_log_levels_and_end(tmp_path, capsys):
    before = list(logging.getLogger("realtime_client").handlers)
    with logs.configured("warning"):
        logs.Log("test").info("unseen")
        logs.Log("test").warning("seen", n=1)
    shown = capsys.readouterr().err
    assert "seen" in shown
    assert "n=1" in shown
    assert "unseen" not in shown
    assert logging.getLogger("realtime_client").handlers == before


def test_a_log_file_that_cannot_be_written_is_a_usage_error():
    with pytest.raises(UsageError, match="--log-file"), logs.configured(file=Path("/nowhere/at/all")):
        pass


def test_a_full_disk_behind_the_log_is_told_once_and_ends_nothing(capsys):
    with logs.configured("debug", file=Path("/dev/full")):
        for _ in range(3):
            logs.Log("test").warning("something", text="x" * 1000)
    assert capsys.readouterr().err == ("realtime: the log cannot be written from here on: No space left on device\n")
