"""An MP3 as a chain of frames, to find how long it really is. Pure.

An MP3 states no length of its own: a decoder guesses from the size of its first frame, and believes an Xing or Info
header, which belongs to the file it was written for and stays in front when files are joined. So the frames are counted
here, and each stretch of them gets a correct header; a decoder then reads all that there is.

Frames: ISO/IEC 11172-3 and 13818-3, section 2.4. Xing and Info: the headers that LAME writes, as mpg123 reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_KBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_FRAMES_GIVEN, _BYTES_GIVEN = 1, 2
_TAG_BYTES = 16  # Xing or Info, flags, frames, bytes
_LATEST_BEGIN = 65_536
_SLACK_BYTES = 1  # some encoders leave out the last frame's padding


class Frame(NamedTuple):
    """A frame of layer III. kind: what all frames of one stretch share. tag_at: where an Xing header is in it."""

    at: int
    size: int
    kind: tuple[int, int, bool]
    samples: int
    rate_hz: int
    tag_at: int


class FrameRun(NamedTuple):
    """Frames that belong together, with a header that states their number.

    seconds: how long they last. promised_s: how long they should last according to the header that was there; None
    without one.
    """

    data: bytes
    seconds: float
    promised_s: float | None


class Chain(NamedTuple):
    """All of an MP3. stretches: empty if it is no MP3. torn: the last frame is not whole."""

    stretches: tuple[FrameRun, ...]
    torn: bool = False


def frame_at(data: bytes, at: int) -> Frame | None:
    """Return the layer III frame whose header is here; None without one. It may extend beyond the end."""
    head = data[at : at + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, kbits_index, rate_index = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or rate_index == 3 or not 0 < kbits_index < 15:
        return None
    rate_hz = _RATES_HZ[version][rate_index]
    kbits = (_KBITS_1 if version == 3 else _KBITS_2)[kbits_index]
    size = (144_000 if version == 3 else 72_000) * kbits // rate_hz + (head[2] >> 1 & 1)
    mono = head[3] >> 6 == 3
    side = {(3, False): 32, (3, True): 17, (2, False): 17, (0, False): 17}.get((version, mono), 9)
    samples = 1152 if version == 3 else 576
    return Frame(at, size, (version, rate_index, mono), samples, rate_hz, at + 4 + side)


def chain(data: bytes) -> Chain:
    """Return the stretches of an MP3: one begins at each Xing header and wherever rate or channels change."""
    frames: list[Frame] = []
    torn = False
    for frame in _frames(data):
        torn = frame.at + frame.size > len(data) + _SLACK_BYTES
        if not torn:
            frames.append(frame)
    if not frames:
        return Chain(())
    begins = [
        n
        for n, frame in enumerate(frames)
        if not n or frame.kind != frames[n - 1].kind or _promise(data, frame) is not None
    ]
    ends = [*begins[1:], len(frames)]
    found = (_stretch(data, frames[begin:end]) for begin, end in zip(begins, ends, strict=True))
    return Chain(tuple(stretch for stretch in found if stretch.seconds), torn)


def _frames(data: bytes) -> Iterator[Frame]:
    """Yield the frames in order; the last one may extend beyond the end.

    A header is trusted where another frame of its kind follows, or where one ended: anywhere else it may be chance.
    """
    at, kind, began = 0, None, False
    while at + 4 <= len(data):
        skip = _tag_size(data, at)
        if skip:
            at += skip
            continue
        frame = frame_at(data, at)
        if frame is not None and (_followed(data, frame) or (frame.kind == kind and not _torn(data, frame))):
            yield frame
            at, kind, began = at + frame.size, frame.kind, True
            continue
        kind = None
        at = data.find(b"\xff", at + 1)
        if at < 0 or (not began and at > _LATEST_BEGIN + _tag_size(data, 0)):
            return


def _followed(data: bytes, frame: Frame) -> bool:
    end = frame.at + frame.size
    if end >= len(data):
        return end == len(data)
    after = frame_at(data, end)
    return (after is not None and after.kind == frame.kind) or bool(_tag_size(data, end))


def _torn(data: bytes, frame: Frame) -> bool:
    """Whether other frames begin within this one: the file was cut, and another was appended."""
    at = frame.at
    while (at := data.find(b"\xff", at + 1, frame.at + frame.size)) > 0:
        inner = frame_at(data, at)
        if inner is not None and inner.at + inner.size < len(data) and _followed(data, inner):
            return True
    return False


def _tag_size(data: bytes, at: int) -> int:
    """Return the length of a tag (ID3v2, ID3v1, APE) that is here, 0 for none."""
    head = data[at : at + 10]
    if head[:3] == b"ID3" and len(head) == 10 and max(head[6:]) < 0x80:
        return 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]) + (10 if head[5] & 0x10 else 0)
    if head[:3] == b"TAG":
        return 128
    if head[:8] == b"APETAGEX":
        size = int.from_bytes(data[at + 12 : at + 16], "little")
        return 32 + (size if data[at + 23 : at + 24] and data[at + 23] & 0x20 else 0)
    return 0


def _promise(data: bytes, frame: Frame) -> int | None:
    """Return how many frames an Xing, Info or VBRI header in this frame promises, 0 for unknown; None without one."""
    name = data[frame.tag_at : frame.tag_at + 4]
    if name in (b"Xing", b"Info"):
        given = int.from_bytes(data[frame.tag_at + 4 : frame.tag_at + 8], "big") & _FRAMES_GIVEN
        return int.from_bytes(data[frame.tag_at + 8 : frame.tag_at + 12], "big") if given else 0
    if data[frame.at + 36 : frame.at + 40] == b"VBRI":
        return int.from_bytes(data[frame.at + 50 : frame.at + 54], "big")
    return None


def _stretch(data: bytes, frames: list[Frame]) -> FrameRun:
    first = frames[0]
    promised = _promise(data, first)
    sound = frames if promised is None else frames[1:]
    if not sound:
        return FrameRun(b"", 0.0, None)
    body = b"".join(data[frame.at : frame.at + frame.size] for frame in sound)
    frame_s = first.samples / first.rate_hz
    whole = _header(data, first, len(sound), len(body)) + body
    return FrameRun(whole, len(sound) * frame_s, promised * frame_s if promised else None)


def _header(data: bytes, first: Frame, frames: int, size: int) -> bytes:
    """Return a frame with an Info header: the one that was there, corrected, or a new one without sound.

    What an old one says of the encoder's delay stays, so that the silence around the sound is cut as it was.
    """
    at = first.tag_at - first.at
    name, flags = (
        data[first.tag_at : first.tag_at + 4],
        int.from_bytes(data[first.tag_at + 4 : first.tag_at + 8], "big"),
    )
    if name in (b"Xing", b"Info") and flags & 3 == _FRAMES_GIVEN | _BYTES_GIVEN:
        own = bytearray(data[first.at : first.at + first.size])
        own[at + 8 : at + _TAG_BYTES] = frames.to_bytes(4, "big") + (size + len(own)).to_bytes(4, "big")
        return bytes(own)
    head = bytearray(data[first.at : first.at + 4])
    head[1] |= 1  # no checksum
    for kbits_index in range(1, 15):
        head[2] = kbits_index << 4 | head[2] & 0x0C
        new = frame_at(bytes(head), 0)
        if new is not None and new.size >= at + _TAG_BYTES + 140:  # mpg123 reads past the place of LAME's part, too
            break
    assert new is not None
    tag = b"Info" + (_FRAMES_GIVEN | _BYTES_GIVEN).to_bytes(4, "big")
    tag += frames.to_bytes(4, "big") + (size + new.size).to_bytes(4, "big")
    return (bytes(head) + bytes(at - 4) + tag).ljust(new.size, b"\0")
