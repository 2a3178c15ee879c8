"""Cutting frames out of a byte stream, against a plain reader of RFC 6455 (section 5.2)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_client.client.frames import FrameSplitter, OtherFrame

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
LIMIT = 100_000


def frame(opcode: int, payload: bytes, *, fin: bool = True, form: int = 0, mask: bytes = b"", rsv: int = 0) -> bytes:
    """One frame. form: how its length is written, 7, 16 or 64 bits; 0 for the shortest."""
    size = len(payload)
    form = form or (7 if size < 126 else 16 if size < 65536 else 64)
    flag = 128 if mask else 0
    head = bytes([fin << 7 | rsv << 4 | opcode])
    if form == 7:
        head += bytes([flag | size])
    elif form == 16:
        head += bytes([flag | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([flag | 127]) + size.to_bytes(8, "big")
    if mask:
        payload = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))
    return head + mask + payload


@st.composite
def frames(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """(a frame on the wire, what the splitter has to make of it)."""
    opcode = draw(st.sampled_from([TEXT, TEXT, TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG]))
    fin = opcode >= CLOSE or draw(st.booleans())
    size = draw(st.sampled_from([0, 1, 2, 125, 126, 127, 300]) if opcode < CLOSE else st.integers(0, 125))
    payload = draw(st.binary(min_size=size, max_size=size))
    form = draw(st.sampled_from([0, 16, 64] if size < 126 else [0, 64]))
    rsv = draw(st.sampled_from([0, 0, 0, 4]))
    wire = frame(opcode, payload, fin=fin, form=form, rsv=rsv)
    plain = opcode == TEXT and fin and not rsv
    return wire, payload if plain else OtherFrame(wire)


def fed(pieces: list[bytes], limit: int = LIMIT) -> list[bytes]:
    splitter = FrameSplitter(limit)
    return [whole for piece in pieces for whole in splitter.feed(piece)]


def typed(whole: list[bytes]) -> list[tuple[type, bytes]]:
    return [(type(each), bytes(each)) for each in whole]


def cut_at(stream: bytes, cuts: list[int]) -> list[bytes]:
    marks = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[a:b] for a, b in itertools.pairwise(marks)]


@given(st.lists(frames(), max_size=8), st.lists(st.integers(0, 10_000), max_size=12))
@settings(max_examples=300, deadline=None)
def test_any_cut_gives_the_same_frames_in_order(sent: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    stream = b"".join(wire for wire, _ in sent)
    assert typed(fed(cut_at(stream, cuts))) == typed([expected for _, expected in sent])


@given(st.lists(frames(), max_size=4))
@settings(max_examples=50, deadline=None)
def test_byte_by_byte(sent: list[tuple[bytes, bytes]]) -> None:
    stream = b"".join(wire for wire, _ in sent)
    assert typed(fed([bytes([byte]) for byte in stream])) == typed([expected for _, expected in sent])


def test_a_frame_is_handed_over_with_its_last_byte_and_not_before() -> None:
    splitter = FrameSplitter(LIMIT)
    wire = frame(TEXT, b"x" * 70_000)
    assert splitter.feed(wire[:-1]) == []
    assert splitter.feed(wire[-1:] + wire[:5]) == [b"x" * 70_000]
    assert splitter.feed(wire[5:]) == [b"x" * 70_000]
    assert splitter.feed(b"") == []


@given(st.lists(frames(), max_size=3), st.lists(frames(), max_size=3), st.lists(st.integers(0, 5000), max_size=8))
@settings(deadline=None)
def test_a_masked_frame_hands_over_everything_after_it(
    before: list[tuple[bytes, bytes]], after: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    bad = frame(TEXT, b"a server must not mask", mask=b"\x01\x02\x03\x04")
    rest = bad + b"".join(wire for wire, _ in after)
    stream = b"".join(wire for wire, _ in before) + rest
    whole = fed(cut_at(stream, cuts))
    assert typed(whole[: len(before)]) == typed([expected for _, expected in before])
    assert all(type(each) is OtherFrame for each in whole[len(before) :])
    assert b"".join(whole[len(before) :]) == rest


@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1, 2**32, 2**63, 2**64 - 1])
def test_frames_beyond_the_limit(size: int) -> None:
    head = b"\x81\x7f" + size.to_bytes(8, "big")
    splitter = FrameSplitter(LIMIT)
    whole = splitter.feed(frame(TEXT, b"ok") + head)
    if size <= LIMIT:
        assert whole == [b"ok"]
        assert splitter.feed(b"x" * size) == [b"x" * size]
    else:  # told at once: nobody waits for what is refused anyway
        assert typed(whole) == [(bytes, b"ok"), (OtherFrame, head)]
        assert typed(splitter.feed(b"more")) == [(OtherFrame, b"more")]


def test_nothing_is_kept_beyond_one_frame() -> None:
    splitter = FrameSplitter(LIMIT)
    wire = frame(TEXT, b"y" * 1000)
    for _ in range(1000):
        assert splitter.feed(wire[:700]) == []
        assert splitter.feed(wire[700:]) == [b"y" * 1000]
        assert splitter._chunks == []
