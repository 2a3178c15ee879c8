"""PCM helpers, G.711, sample rates, audio files."""

import contextlib
import functools
import importlib.util
import io
import math
import re
import struct
import warnings
from array import array

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_client.audio import g711, pcm
from realtime_client.audio.containers import sound_part
from realtime_client.audio.files import decode_audio, read_audio, transcode, write_wav
from realtime_client.audio.mpeg import frame_at
from realtime_client.audio.resample import Resampler, resample
from realtime_client.errors import UsageError
from realtime_client.updates import PCM16_24K, AudioFormat

ULAW, ALAW = AudioFormat("ulaw", 8_000), AudioFormat("alaw", 8_000)
ALL_SAMPLES = np.arange(65_536, dtype="<u2").tobytes()
ALL_CODES = bytes(range(256))


def tone(seconds, rate_hz=24_000, hz=440.0, level=0.5):
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return (np.sin(2 * np.pi * hz * t) * level * 32767).astype("<i2").tobytes()


def test_levels():
    assert pcm.peak_dbfs(b"") == pcm.peak_dbfs(bytes(10)) == -math.inf
    assert pcm.peak_dbfs(np.array([-32768], "<i2").tobytes()) == 0.0
    assert pcm.peak_dbfs(tone(0.1)) == pytest.approx(-6.02, abs=0.05)
    assert pcm.duration_s(bytes(48_000), 24_000) == 1.0
    assert len(pcm.silence(20, PCM16_24K)) == 960


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_stereo_there_and_back(left, right):
    left, right = left[: len(left) & ~1], right[: len(right) & ~1]
    size = max(len(left), len(right))
    stereo = np.frombuffer(pcm.interleave(left, right), "<i2")
    assert (stereo[0::2].tobytes(), stereo[1::2].tobytes()) == (left.ljust(size, b"\0"), right.ljust(size, b"\0"))


@pytest.mark.skipif(importlib.util.find_spec("audioop") is None, reason="this Python has no audioop (3.13 and later)")
def test_g711_is_audioop_for_every_input():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import audioop
    assert g711.encode(ALL_SAMPLES, "ulaw") == audioop.lin2ulaw(ALL_SAMPLES, 2)
    assert g711.encode(ALL_SAMPLES, "alaw") == audioop.lin2alaw(ALL_SAMPLES, 2)
    assert g711.decode(ALL_CODES, "ulaw") == audioop.ulaw2lin(ALL_CODES, 2)
    assert g711.decode(ALL_CODES, "alaw") == audioop.alaw2lin(ALL_CODES, 2)


@pytest.mark.parametrize("law", g711.LAWS)
def test_g711_by_its_own_rules(law):
    assert g711.encode(g711.decode(ALL_CODES, law), law).replace(b"\x7f", b"\xff") == ALL_CODES.replace(
        b"\x7f", b"\xff"
    )
    there = np.frombuffer(g711.decode(g711.encode(ALL_SAMPLES, law), law), "<i2").astype(int)
    samples = np.frombuffer(ALL_SAMPLES, "<i2").astype(int)
    assert np.all(np.abs(there - samples) <= np.maximum(np.abs(samples) // 16, 16) + 132)
    assert g711.encode(b"\1\2\3", law) == g711.encode(b"\1\2", law)
    assert g711.encode(np.array([0, 32767, -32768], "<i2").tobytes(), law) == (
        b"\xff\x80\x00" if law == "ulaw" else b"\xd5\xaa\x2a"  # ITU-T G.711, tables 1 and 2
    )


def test_g711_unknown_law():
    with pytest.raises(UsageError, match="no such"):
        g711.encode(b"", "zlaw")


@given(st.lists(st.integers(0, 999), max_size=8), st.sampled_from([(8000, 24000), (44100, 24000), (24000, 16000)]))
def test_streamed_resampling_equals_one_piece(sizes, rates):
    whole = (np.arange(sum(sizes) // 2) * 37 % 20_000).astype("<i2").tobytes().ljust(sum(sizes), b"\1")
    stream, at, out = Resampler(*rates), 0, []
    for size in sizes:
        out.append(stream.process(whole[at : at + size]))
        at += size
    got = b"".join(out) + stream.flush()
    assert got == resample(whole, *rates)
    assert len(got) // 2 == int(len(whole) // 2 * rates[1] / rates[0] + 0.5)
    assert stream.flush() == b""


def test_resampling_keeps_the_tone():
    up = np.frombuffer(resample(tone(1, 8_000), 8_000, 24_000), "<i2").astype(float)
    want = np.frombuffer(tone(1, 24_000), "<i2").astype(float)
    assert np.max(np.abs(up - want)[500:-500]) < 40
    with pytest.raises(UsageError, match="sample rate of 0 Hz"):
        Resampler(0, 8_000)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_read_any_file_as_any_format(tmp_path, kind):
    path = tmp_path / f"a.{kind.lower()}"
    stereo = np.frombuffer(tone(1, 48_000), "<i2").repeat(2).reshape(-1, 2)
    soundfile.write(path, stereo / 32_768, 48_000, format=kind)
    got = read_audio(path, PCM16_24K)
    assert len(got) == pytest.approx(48_000, abs=6_000)  # MP3 adds its frame
    heard = np.frombuffer(got[4_800:40_000], "<i2") / 32_768
    assert 20 * np.log10(np.sqrt(np.mean(heard**2))) == pytest.approx(-9, abs=0.5)
    assert len(read_audio(path, ULAW)) == pytest.approx(8_000, abs=1_000)


def test_wav_is_read_bit_exact(tmp_path):
    write_wav(tmp_path / "a.wav", ALL_SAMPLES, 24_000)
    assert read_audio(tmp_path / "a.wav", PCM16_24K) == ALL_SAMPLES


def test_float_wav_is_scaled_and_clipped(tmp_path):
    soundfile.write(tmp_path / "f.wav", np.array([0.5, 2.0, -2.0, np.nan]), 24_000, subtype="FLOAT")
    assert array("h", read_audio(tmp_path / "f.wav", PCM16_24K)).tolist() == [16384, 32767, -32768, 0]


def test_transcode():
    assert transcode(b"\xff" * 80, ULAW, PCM16_24K) == bytes(480)
    assert transcode(bytes(480), PCM16_24K, ALAW) == b"\xd5" * 80
    assert transcode(b"x", ULAW, ULAW) == b"x"


def wav_bytes(tmp_path):
    write_wav(tmp_path / "ok.wav", tone(0.1), 24_000)
    return (tmp_path / "ok.wav").read_bytes()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda p: None, "No such file"),
        (lambda p: p.mkdir(), "is a directory"),
        (lambda p: p.write_bytes(b""), "is empty"),
        (lambda p: p.write_bytes(b"hello, this is text\n" * 50), "not an audio file"),
        (lambda p: p.write_bytes(b"RIFF"), "not an audio file"),
        (lambda p: p.write_bytes(wav_bytes(p.parent)[:-100]), "is cut off"),
        (lambda p: p.write_bytes(wav_bytes(p.parent)[:44]), "is cut off"),
        (lambda p: write_wav(p, b"", 24_000), "no sound"),
        (lambda p: write_wav(p, b"abcd", 5), "sample rate of 5 Hz"),
    ],
)
def test_bad_files_are_one_clear_line(tmp_path, make, match):
    path = tmp_path / "in.wav"
    make(path)
    with pytest.raises(UsageError, match=match) as caught:
        read_audio(path, PCM16_24K)
    assert "\n" not in str(caught.value)
    assert "in.wav" in str(caught.value)


@pytest.mark.parametrize("kind", ["FLAC", "OGG"])
def test_cut_compressed_files(tmp_path, kind):
    path = tmp_path / "cut"
    noise = np.random.default_rng(1).integers(-9000, 9000, 48_000).astype("<i2")
    soundfile.write(path, noise, 24_000, format=kind)
    path.write_bytes(path.read_bytes()[:-9_000])
    with pytest.raises(UsageError, match=r"cut off|not an audio file|no sound"):
        read_audio(path, PCM16_24K)


# --- files whose length is unknown or wrong ----------------------------------------------------------------------------


SOUND = 0.2 * np.sin(2 * np.pi * 440 * np.arange(72_000) / 24_000) + np.random.default_rng(1).normal(0, 0.01, 72_000)


@functools.cache
def made(kind, rate_hz=24_000, channels=1, **options):
    out = io.BytesIO()
    sound = np.repeat(SOUND[:, None], channels, axis=1)
    soundfile.write(out, sound, rate_hz, format=kind, **options)
    return out.getvalue()


def frames_alone(rate_hz=24_000, channels=1):
    """An MP3 as a streaming encoder writes it: without the frame that states the length."""
    data = made("MP3", rate_hz, channels)
    return data[frame_at(data, 0).size :]


def mp3_in_wav(data, size=None):
    head = struct.pack("<HHIIHHHHIHHH", 0x55, 1, 24_000, 4_000, 1, 0, 12, 1, 2, 576, 1, 1_393)
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head
    body += b"data" + struct.pack("<I", len(data) if size is None else size) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def with_size(kind, size, **options):
    """A container whose sound has this size in its header."""
    data = made(kind, **options)
    part = sound_part(data)
    number = (size & ((1 << 8 * part.width) - 1)).to_bytes(part.width, part.order)
    return data[: part.size_at] + number + data[part.size_at + part.width :]


def unmeasured_flac():
    data = bytearray(made("FLAC"))
    data[21] &= 0xF0  # STREAMINFO: the number of samples is unknown (RFC 9639, section 8.2)
    data[22:26] = bytes(4)
    return bytes(data)


def level_db(audio):
    return 20 * np.log10(np.sqrt(np.mean((np.frombuffer(audio, "<i2") / 32_768) ** 2)))


TAGS = b"TAG" + bytes(125) + b"ID3\4\0\0\0\0\0\5hello"


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (frames_alone(), 3),
        (frames_alone(44_100, 2), 72_000 / 44_100),
        (frames_alone(8_000), 9),
        (frames_alone()[100:], 3),  # a stream that was entered in the middle of a frame
        (b"ID3\4\0\0\0\0\1\0" + bytes(128) + frames_alone(), 3),
        (made("MP3") + made("MP3"), 6),
        (made("MP3") + TAGS + frames_alone() + TAGS + frames_alone(), 9),
        (made("MP3") + made("MP3", 16_000), 7.5),
        (mp3_in_wav(frames_alone()), 3),
        (mp3_in_wav(made("MP3")), 3),
        (mp3_in_wav(frames_alone(), 0xFFFFFFFF), 3),
        (made("OGG") + made("OGG"), 6),
        (unmeasured_flac(), 3),
        *((with_size("WAV", size), 3) for size in (0, -1, 0x7FFFFFFF, 0xFFFFF000)),
        *((with_size("WAV", 0, subtype=subtype), 3) for subtype in ("ULAW", "FLOAT", "PCM_24")),
        *((with_size(kind, size), 3) for kind in ("AIFF", "AU", "CAF", "W64", "RF64", "WAVEX") for size in (0, -1)),
    ],
)
def test_a_length_that_is_unknown_or_wrong_is_no_promise(data, seconds, caplog):
    got = decode_audio(data, "in", PCM16_24K)
    assert len(got) / 48_000 == pytest.approx(seconds, abs=0.13)
    assert level_db(got) == pytest.approx(-17, abs=0.7)
    assert not caplog.records


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "AU", "CAF", "W64", "RF64", "WAVEX"])
def test_what_is_cut_off_is_told_with_what_was_read(kind):
    data = made(kind)
    with pytest.raises(
        UsageError, match=r"^the audio file in is cut off: \d+ of 14\d+ bytes .*; (\d\.\d\d) s"
    ) as caught:
        decode_audio(data[: len(data) * 2 // 3], "in", PCM16_24K)
    assert float(re.search(r"(\S+) s of sound could", str(caught.value))[1]) == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (made("MP3")[:-1_000], r"2\.\d\d of 3\.\d\d s are there; 2\.\d\d s of sound could be read"),
        (frames_alone()[:-1_000], "its last frame is not whole; 2"),
        (made("MP3")[:-1_000] + made("MP3"), "of 3"),
        (mp3_in_wav(frames_alone())[:-1_000], "bytes of sound are there; 2"),
        (made("OGG")[:-1_000], "its last page is not whole"),
        (made("OGG", subtype="OPUS")[:-1_000], "its last page is not whole"),
        (made("FLAC")[:-40_000], "missing or damaged; 1"),
        (unmeasured_flac()[:-40_000], "missing or damaged; 1"),
    ],
)
def test_compressed_sound_that_is_cut_off(data, match):
    with pytest.raises(UsageError, match=f"^the audio file in is cut off: .*{match}"):
        decode_audio(data, "in", PCM16_24K)


def test_a_stream_without_an_end_is_used_and_told(caplog):
    ogg = made("OGG")
    decode_audio(ogg[: ogg.rindex(b"OggS")], "in.ogg", PCM16_24K)
    assert re.fullmatch(r"in.ogg has no end: it may be cut off; \d\.\d\d s of sound were read", caplog.messages[0])


def test_channels_that_cancel_each_other_out(tmp_path, caplog):
    stereo = np.stack([SOUND, -0.9 * SOUND], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 24_000)
    got = read_audio(tmp_path / "a.wav", PCM16_24K)
    assert level_db(got) == pytest.approx(-17, abs=0.2)
    assert caplog.messages == [
        f"the channels of {tmp_path}/a.wav cancel each other out (opposite phase): channel 1 alone is taken"
    ]


@pytest.mark.parametrize(
    "second", [SOUND, 0 * SOUND, np.roll(SOUND, 14), np.random.default_rng(2).normal(0, 0.1, 72_000)]
)
def test_other_channels_are_averaged(tmp_path, second, caplog):
    soundfile.write(tmp_path / "a.wav", np.stack([SOUND, second], axis=1), 24_000, subtype="FLOAT")
    got = np.frombuffer(read_audio(tmp_path / "a.wav", PCM16_24K), "<i2")
    np.testing.assert_allclose(got, (SOUND + second) / 2 * 32_768, atol=1)
    assert not caplog.records


def test_floating_point_samples_in_the_scale_of_integers(tmp_path, caplog):
    soundfile.write(tmp_path / "a.wav", SOUND * 32_768, 24_000, subtype="FLOAT")
    got = np.frombuffer(read_audio(tmp_path / "a.wav", PCM16_24K), "<i2")
    np.testing.assert_allclose(got, SOUND * 32_768, atol=1)
    assert "they are taken in the scale of 16-bit sound" in caplog.messages[0]
    soundfile.write(tmp_path / "b.wav", SOUND * 2**31, 24_000, subtype="DOUBLE")
    with pytest.raises(
        UsageError, match=r"b.wav cannot be used: its floating-point samples reach .*, and full scale is 1"
    ):
        read_audio(tmp_path / "b.wav", PCM16_24K)


@given(st.binary(max_size=3_000), st.sampled_from(["MP3", "WAV", "OGG", "AIFF", "FLAC", "CAF"]), st.integers(0, 3_000))
@settings(max_examples=150, deadline=None)
def test_damaged_files_end_in_one_error(noise, kind, at):
    data = bytearray(made(kind)[:6_000])
    data[at : at + len(noise)] = noise
    with contextlib.suppress(UsageError):
        decode_audio(bytes(data), "in", PCM16_24K)


def test_odd_paths():
    with pytest.raises(UsageError, match="cannot read"):
        read_audio("a\0b", PCM16_24K)
    with pytest.raises(UsageError, match="not a regular file"):
        read_audio("/dev/null", PCM16_24K)
    with pytest.raises(UsageError, match="cannot write"):
        write_wav("/nowhere/at/all.wav", b"", 24_000)
    with pytest.raises(UsageError, match="<stdin> is not"):
        decode_audio(b"no", "<stdin>", PCM16_24K)
