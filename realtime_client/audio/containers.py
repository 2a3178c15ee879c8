"""How long a file claims to be, and how much of it is there. Pure.

libsndfile trusts the claim: it reads a truncated file without complaint, or not at all where the length is 0 because a
program could not go back to the header to fill it in. So the length is checked here first.

WAV: RIFF (Microsoft, 1991), RF64: EBU Tech 3306. W64: Sony's Wave64. AIFF: Apple, 1989. CAF: Apple's Core Audio
Format. AU: as Sun wrote it. Ogg: RFC 3533.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_OPEN = (0, 0x7FFFFFFF, 0xFFFFFFFF)
_NO_SIZE = {4: 0xFFFFF000, 8: (1 << 63) - 4096}  # nearly the greatest number of its width: no size was given
_PAGE_BYTES = 27
_BEGINS, _ENDS = 2, 4
_MPEG_LAYER_3 = 0x55


class Form(NamedTuple):
    """A container's layout of chunks. first: where. pad: what their lengths are rounded up to. inner: in `size`."""

    first: int
    name: int
    size: int
    order: str
    sound: bytes
    pad: int = 1
    inner: int = 0


class SoundPart(NamedTuple):
    """The part with the sound.

    at: where it begins. size: in bytes, as stated; None where it was left open. size_at, width, order: where and how
    that number is stored. inner: what it counts besides the sound.
    """

    at: int
    size: int | None
    size_at: int
    width: int
    order: str
    inner: int = 0


class Ogg(NamedTuple):
    """links: the streams of a file one after the other. torn: the last page is not whole. ended: as it should."""

    links: tuple[bytes, ...]
    torn: bool
    ended: bool


def _form(data: bytes) -> Form | None:
    head, kind = data[:4], data[8:12]
    if head in (b"RIFF", b"RF64") and kind == b"WAVE":
        return Form(12, 4, 4, "little", b"data", pad=2)
    if head == b"FORM" and kind in (b"AIFF", b"AIFC", b"16SV", b"8SVX"):
        return Form(12, 4, 4, "big", b"SSND" if kind[:1] == b"A" else b"BODY", pad=2)
    if head == b"riff" and data[24:28] == b"wave":
        return Form(40, 16, 8, "little", b"data", pad=8, inner=24)
    if head == b"caff":
        return Form(8, 4, 8, "big", b"data")
    return None


def _chunks(data: bytes, form: Form) -> Iterator[tuple[int, bytes, int, int]]:
    """Yield each chunk's position, its name, where its content begins, and how long it claims to be."""
    at = form.first
    while at + form.name + form.size <= len(data):
        content = at + form.name + form.size
        size = _number(data, at + form.name, form.size, form.order)
        yield at, data[at : at + 4], content, size - form.inner if size >= form.inner else size
        end = content + max(0, size - form.inner)
        at = end + -end % form.pad if form.pad > 2 else end + (size % 2 if form.pad == 2 else 0)


def sound_part(data: bytes) -> SoundPart | None:
    """Return where a container has its sound; None for other kinds of file, and where there is no sound."""
    if data[:4] == b".snd" and len(data) >= 24:
        return SoundPart(_number(data, 4, 4, "big"), _stated(_number(data, 8, 4, "big"), 4), 8, 4, "big")
    form = _form(data)
    if form is None:
        return None
    for at, name, content, size in _chunks(data, form):
        if name != form.sound:
            continue
        long_at = data.find(b"ds64", 12, 64) if data[:4] == b"RF64" else -1
        if long_at >= 0:  # the size of the data follows that of the whole
            stated = _stated(_number(data, long_at + 16, 8, "little"), 8)
            return SoundPart(content, stated, long_at + 16, 8, "little")
        stated = _stated(size, form.size)
        if size == 0 and _ends_in_chunks(data, form, content):
            stated = 0
        return SoundPart(content, stated, at + form.name, form.size, form.order, form.inner)
    return None


def closed(data: bytes, part: SoundPart) -> bytes:
    """Return the file with the size of its sound corrected to what is there."""
    size = min(len(data) - part.at + part.inner, (1 << 8 * part.width) - 1)
    raw = size.to_bytes(part.width, part.order)  # type: ignore[arg-type]
    return data[: part.size_at] + raw + data[part.size_at + part.width :]


def mp3_inside(data: bytes, part: SoundPart) -> bytes | None:
    """Return the MP3 that a WAV holds (format tag 0x55); None for other sound."""
    form = _form(data)
    if form is None or form.order != "little" or form.name != 4:
        return None
    for _, name, content, _ in _chunks(data, form):
        if name == b"fmt ":
            if _number(data, content, 2, "little") != _MPEG_LAYER_3:
                return None
            end = len(data) if part.size is None else part.at + part.size
            return data[part.at : end]
    return None


def ogg(data: bytes) -> Ogg | None:
    """Return the streams of an Ogg file, each of which is a file of its own; None for another kind of file."""
    if data[:4] != b"OggS":
        return None
    begins: list[int] = []
    at, flags, heads = 0, 0, False
    while at < len(data):
        if data[at : at + 4] != b"OggS":
            at = data.find(b"OggS", at)
            if at < 0:
                break
        end = _page_end(data, at)
        if end is None or end > len(data):
            return Ogg(_split(data[:at], begins), torn=True, ended=False)
        flags = data[at + 5]
        if flags & _BEGINS and not heads:
            begins.append(at)
        heads = bool(flags & _BEGINS)
        at = end
    return Ogg(_split(data, begins), torn=False, ended=bool(flags & _ENDS))


def _page_end(data: bytes, at: int) -> int | None:
    count_at = at + _PAGE_BYTES - 1
    if count_at >= len(data):
        return None
    lengths = data[count_at + 1 : count_at + 1 + data[count_at]]
    return count_at + 1 + data[count_at] + sum(lengths) if len(lengths) == data[count_at] else None


def _split(data: bytes, begins: list[int]) -> tuple[bytes, ...]:
    ends = [*begins[1:], len(data)]
    return tuple(data[begin:end] for begin, end in zip(begins, ends, strict=False))  # no links, no pairs


def _number(data: bytes, at: int, size: int, order: str) -> int:
    return int.from_bytes(data[at : at + size], order)  # type: ignore[arg-type]


def _stated(size: int, width: int) -> int | None:
    """Return a size that was filled in; None for one that was left open."""
    return None if size in _OPEN or size >= _NO_SIZE[width] else size


def _ends_in_chunks(data: bytes, form: Form, at: int) -> bool:
    """Whether nothing but whole chunks follows: then a size of 0 means no sound."""
    end = at
    for _, name, content, size in _chunks(data, form._replace(first=at)):
        if not name.isascii() or not name.decode("ascii").isprintable():
            return False
        end = content + size + (size % 2 if form.pad == 2 else 0)
    return end in (len(data), len(data) + 1)
