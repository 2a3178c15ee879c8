"""Framing: bytes into messages, however they are cut; what browsers and other parsers read, this reads."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wire_helpers import every_way

from realtime_client.chat.wires import framing
from realtime_client.chat.wires.framing import EventStream, JsonLines, TooLongError

Messages = list[tuple[str, bytes]]


def framed(frames: EventStream | JsonLines, reads: list[bytes]) -> Messages:
    found: Messages = []
    for data in reads:
        found += frames.feed(data)
    return found + frames.end()


EVENTS: dict[str, tuple[str, Messages]] = {
    "one": ("data: a\n\n", [("", b"a")]),
    "several": ("data: a\n\ndata: b\n\ndata: c\n\n", [("", b"a"), ("", b"b"), ("", b"c")]),
    "no space": ("data:a\n\n", [("", b"a")]),
    "one space of two": ("data:  a\n\n", [("", b" a")]),
    "lines of one event": ("data: a\ndata: b\n\n", [("", b"a\nb")]),
    "CRLF": ("data: a\r\n\r\ndata: b\r\n\r\n", [("", b"a"), ("", b"b")]),
    "CR": ("data: a\r\rdata: b\r\r", [("", b"a"), ("", b"b")]),
    "all line ends": ("data: a\r\n\ndata: b\n\rdata: c\r\r\n", [("", b"a"), ("", b"b"), ("", b"c")]),
    "comments": (": OPENROUTER PROCESSING\n\n:\n\ndata: a\n: b\n\n", [("", b"a")]),
    "a name": ("event: error\ndata: a\n\ndata: b\n\n", [("error", b"a"), ("", b"b")]),
    "a name without data": ("event: ping\n\ndata: b\n\n", [("", b"b")]),
    "a name taken back": ("event: ping\nevent\ndata: b\n\n", [("", b"b")]),
    "id and retry": ("id: 1\nretry: 3000\ndata: a\n\n", [("", b"a")]),
    "other fields": ("data2: x\ndat: y\ndata: a\n\n", [("", b"a")]),
    "a field without a colon": ("data\n\n", [("", b"")]),
    "two of them": ("data\ndata\n\n", [("", b"\n")]),
    "BOM": ("\ufeffdata: a\n\ndata: \ufeffb\n\n", [("", b"a"), ("", "\ufeffb".encode())]),
    "no final blank line": ("data: a\n\ndata: b\n", [("", b"a"), ("", b"b")]),
    "no final line end": ("data: a\n\ndata: b", [("", b"a"), ("", b"b")]),
    "empty lines between": ("\n\n\ndata: a\n\n\n\ndata: b\n\n", [("", b"a"), ("", b"b")]),
    "other ends of lines in text": (
        "data: a\u2028b\u0085c\x0bd\x0ce\n\n",
        [("", "a\u2028b\u0085c\x0bd\x0ce".encode())],
    ),
    "many bytes a character": ("data: 日本語 😀\n\n", [("", "日本語 😀".encode())]),
    "nothing": ("", []),
}


@pytest.mark.parametrize(("text", "messages"), EVENTS.values(), ids=EVENTS)
def test_events_are_cut_out_however_they_arrive(text: str, messages: Messages) -> None:
    for reads in every_way(text.encode()):
        assert framed(EventStream(), reads) == messages, reads


LINES: dict[str, tuple[bytes, list[bytes]]] = {
    "lines": (b'{"a":1}\n{"b":2}\n', [b'{"a":1}', b'{"b":2}']),
    "CRLF": (b'{"a":1}\r\n{"b":2}\r\n', [b'{"a":1}', b'{"b":2}']),
    "spaces about": (b' {"a":1} \n {"b":2} \n', [b'{"a":1}', b'{"b":2}']),
    "no final line end": (b'{"a":1}\n{"b":2}', [b'{"a":1}', b'{"b":2}']),
    "empty lines": (b'\n\n{"a":1}\n \n', [b'{"a":1}']),
    "BOM": (b'\xef\xbb\xbf{"a":1}\n', [b'{"a":1}']),
    "other ends of lines in text": ('{"a":"x\u2028y\u0085z"}\n'.encode(), ['{"a":"x\u2028y\u0085z"}'.encode()]),
    "many bytes a character": ('{"a":"日本語😀"}\n'.encode(), ['{"a":"日本語😀"}'.encode()]),
    "nothing": (b"", []),
}


@pytest.mark.parametrize(("data", "messages"), LINES.values(), ids=LINES)
def test_lines_are_cut_out_however_they_arrive(data: bytes, messages: list[bytes]) -> None:
    for reads in every_way(data):
        assert [each.strip() for _, each in framed(JsonLines(), reads)] == messages, reads


@pytest.mark.parametrize("kind", [EventStream, JsonLines])
def test_a_message_that_fits_is_read_whatever_its_size(kind: type[EventStream | JsonLines]) -> None:
    value = b"x" * (8 * 2**20)
    head = b"data: " if kind is EventStream else b""
    data = head + value + b"\n\n"
    reads = [data[n : n + 65_536] for n in range(0, len(data), 65_536)]
    assert framed(kind(), reads) == [("", value)]


@pytest.mark.parametrize(
    ("kind", "begin", "more"),
    [
        (EventStream, b"data: ", b"x" * 65_536),
        (EventStream, b": ", b"x" * 65_536),
        (EventStream, b"", b"data: " + b"x" * 65_536 + b"\n"),  # lines that end, of an event that does not
        (EventStream, b"", b"data: " + b"x" * 65_536 + b"\r"),
        (JsonLines, b'{"a":"', b"x" * 65_536),
    ],
)
def test_a_message_without_an_end_is_refused(kind: type[EventStream | JsonLines], begin: bytes, more: bytes) -> None:
    frames = kind()
    frames.feed(begin)
    with pytest.raises(TooLongError, match="more than 16 MiB"):
        for _ in range(framing.MOST_BYTES // 65_536 + 2):
            frames.feed(more)


# --- other parsers of the same bytes ----------------------------------------------------------------------------------

_NAMES = st.sampled_from(["data", "data", "data", "event", "id", "retry", "", "x"])
_VALUES = st.text(st.sampled_from('ab: {}"\\é😀\u2028\u0085\x0b\ufeff'), max_size=8)
_ENDS = st.sampled_from(["\n", "\n", "\r\n", "\r"])
_LINES = st.one_of(st.just(""), st.builds("{}: {}".format, _NAMES, _VALUES), st.builds("{}:{}".format, _NAMES, _VALUES))
_STREAMS = st.lists(st.tuples(_LINES, _ENDS), max_size=12).map(lambda told: "".join(map("".join, told)))


def _cut(data: bytes, at: list[int]) -> list[bytes]:
    places = sorted({n % (len(data) + 1) for n in at} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


@given(_STREAMS, st.lists(st.integers(0, 200), max_size=8))
@example("data: a\r\n\r\ndata: b\n\n", [8, 9, 10, 11])
@settings(deadline=None, max_examples=200)
def test_httpx2_and_openai_read_the_same_events(text: str, at: list[int]) -> None:
    text = text.removeprefix("\ufeff") + "\n\n"  # both lose what a BOM, or the end of the stream, stands beside
    reads = _cut(text.encode(), at)
    ours = _with_data(framed(EventStream(), reads))
    assert ours == _with_data(_by_httpx2(reads))
    assert ours == _with_data(_by_openai(reads))


def _with_data(messages: Messages) -> Messages:
    """Without events that say nothing: both make some of a name, or an id, alone."""
    return [each for each in messages if each[1]]


def _by_httpx2(reads: list[bytes]) -> Messages:
    import httpx2

    class Body(httpx2.SyncByteStream):
        def __iter__(self) -> Any:
            return iter(reads)

    request = httpx2.Request("GET", "http://localhost/")
    response = httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Body(), request=request)
    events = httpx2.EventSource(response)
    return [("" if each.event == "message" else each.event, each.data.encode()) for each in events]


def _by_openai(reads: list[bytes]) -> Messages:
    from openai._streaming import SSEDecoder

    return [(each.event or "", each.data.encode()) for each in SSEDecoder().iter_bytes(iter(reads))]


def test_the_fast_way_and_the_slow_one_agree() -> None:
    """Whole events in one read take a short cut: it must not be seen."""
    parts = [
        b"data: a\n\n",
        b"data: b\n\n: c\n\n",
        b"data: d\ndata: e\n\n",
        b"data: \n\n",
        b"data: f\r\n\r\n",
        b"\n",
        b"event: x\n",
    ]
    for first in parts:
        for second in parts:
            for third in parts:
                stream = b"data: z\n\n" + first + second + third + b"data: y\n\n"
                slow = framed(EventStream(), [stream[n : n + 1] for n in range(len(stream))])
                assert framed(EventStream(), [b"data: z\n\n", first + second, third + b"data: y\n\n"]) == slow
                assert framed(EventStream(), [b"data: z\n\n", first, second, third, b"data: y\n\n"]) == slow
                assert slow[0] == ("", b"z")
